"""The users' managers, with a shared port: the only place that imports ndcctools."""
