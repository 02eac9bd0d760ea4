"""TODO vine_sharedport/factory/report."""
