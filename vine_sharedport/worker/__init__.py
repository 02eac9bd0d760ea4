"""What runs on the execute point; standard library only, from one file.

- ``launcher.sh``: picks a worker program and a way, then becomes the worker; POSIX ``sh``.
- ``relay``: the worker behind a local port, where the shim does not load.

Called by the job, or by ``bundle.local_worker``. Imports ``dialing``, ``wire`` and what they
need from the ground floor, as ``bundle.package`` lists it, and nothing else of the package.
"""
