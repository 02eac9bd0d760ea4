"""TODO vine_sharedport/factory/submission."""
