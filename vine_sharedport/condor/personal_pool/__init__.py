"""The processes and files of a personal pool, below ``condor.personal``.

- ``config``: HTCondor's programs on this machine, and the configuration written for them.
- ``directory``: the pool's directory, its lock, its user, and the notes by which it is found.
- ``guardian``: the process above ``condor_master`` that ends the pool with its program.
- ``user``: under which name HTCondor knows this user's jobs.
- ``status``: what runs, and what the daemons say.

Called by ``condor`` alone. Imports no bindings: it runs before there is a configuration.
"""
