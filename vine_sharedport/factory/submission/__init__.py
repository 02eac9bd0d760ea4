"""Where a factory's jobs go.

- ``destination``: schedd, pool and grid resource, as the options or a preset name them.
- ``remote_description``: a worker's description, changed for another schedd, an HTCondor-CE or
  a batch system.
- ``location``: where the jobs are, kept in ``place.json`` for whoever has to remove them.

Called by the other wings and the loop. Knows neither manager nor tasks.
"""
