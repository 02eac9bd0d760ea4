"""TODO vine_sharedport/factory/options."""
