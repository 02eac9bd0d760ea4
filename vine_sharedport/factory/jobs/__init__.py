"""TODO vine_sharedport/factory/jobs."""
