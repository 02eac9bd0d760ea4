"""TODO vine_sharedport/shim."""
