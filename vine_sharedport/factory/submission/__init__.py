"""Where a factory's jobs go.

- ``destination``: schedd, pool and grid resource, as the options or a preset name them.
- ``remote_description``: a worker's description, changed for another schedd, an HTCondor-CE or
  a batch system.
- ``refusal_backoff``: pauses after submissions that the schedd has not taken.
- ``schedd_clock``: the schedd's times, by our clock.
- ``location``: where the jobs are, kept in ``place.json`` for whoever has to remove them.

Called by the other wings and the loop. Knows neither manager nor tasks.
"""
