"""TODO vine_sharedport/dialing."""
