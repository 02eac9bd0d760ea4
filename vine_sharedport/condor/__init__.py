"""TODO vine_sharedport/condor."""
