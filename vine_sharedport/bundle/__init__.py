"""What is made on the access point for the execute point.

- ``package``: the relay as one file, and the directory that ``worker --bundle`` writes.
- ``shim_build``: compiles the shim, or finds it where the package is installed.
- ``shim_trial``: tries a manager's address with it, as a worker here would.
- ``worker_program``: finds ``vine_worker`` and reads what it needs of a machine.
- ``local_worker``: starts a worker on this host by the launcher that jobs have, too.

Called by the worker jobs, the factory, the stock factory and the nouns ``worker`` and
``connect``. Knows no
HTCondor and no manager but a ``Reference``.
"""
