"""Workers as HTCondor jobs.

- ``expressions``: whether HTCondor can read an expression that a user gives.
- ``options``: what a worker is, shared by ``submit_workers`` and the factory.
- ``converters``: the types of option values, for both.
- ``description``: the submit description: files, launcher, environment.
- ``relative_paths``: where submit commands that name files lead.
- ``submit``: ``submit_workers`` and the jobs that it returns.

Called by programs and by the factory. Takes a ``Reference``, never a manager; how many workers
are wanted is the factory's business.
"""
