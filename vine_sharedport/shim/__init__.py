"""The preload library of workers, in C alone; ``bundle.shim_build`` compiles it.

It links against no libc and does what ``dialing`` and ``wire`` do, in one ``connect()``. Runs
in the worker's process on the execute point. Knows of HTCondor the address and its messages.
"""
