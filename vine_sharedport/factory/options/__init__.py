"""What the user wants of a factory.

- ``schema``: every option, with type, default, help and what becomes of the stock ones.
- ``stored``: the same as JSON, in files.
- ``config_file``, ``live``: options from files, also while the factory runs.
- ``preset``, ``project``: what a kind of place needs (``presets/``), and the OSPool's project.

Called by the ``Factory`` class, the command, and the factory's process, which reads them back
from ``config.json``. Knows neither manager nor jobs.
"""
