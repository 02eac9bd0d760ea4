"""What a factory shows of itself.

- ``record``, ``snapshot``: the status as values, and as ``status.json``.
- ``staleness``: a status that is not written any more.
- ``text``, ``prometheus``: the same for people and for Prometheus.
- ``phase``: the codes of what it does, waits for, or has ended by.
- ``paths``: its directory: lock, id, configuration, status file.
- ``runs``: the command that leads to it, or to another manager.

Written by the factory's process; read by programs and the ``factory`` noun. The lowest wing: it
knows none of the others.
"""
