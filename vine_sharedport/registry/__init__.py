"""TODO vine_sharedport/registry."""
