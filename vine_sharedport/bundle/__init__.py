"""TODO vine_sharedport/bundle."""
