"""TODO vine_sharedport/serving."""
