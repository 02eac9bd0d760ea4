"""TODO vine_sharedport/manager_protocol."""
