"""TODO vine_sharedport/condor/worker_job."""
