"""The access point's half of the link.

- ``endpoint``: the Unix socket that takes hand-offs, one state machine for all connections.
- ``porter``: the process beside the manager that serves it; ``porter_handle``: its owner.
- ``abstract_name``: the sock id's other name, which the porter keeps from other users.
- ``counters``: numbers in shared memory, and the codes of refusals.

Called by ``htcondor_shared_link``, the check of the shared port and the factory's lookup. The
porter is isolated from the user's program. Knows neither HTCondor's bindings nor ``ndcctools``.
"""
