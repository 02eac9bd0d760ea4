"""TODO vine_sharedport/condor/personal_pool."""
