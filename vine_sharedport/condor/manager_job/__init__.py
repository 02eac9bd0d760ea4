"""TODO vine_sharedport/condor/manager_job."""
