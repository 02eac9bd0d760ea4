"""TODO vine_sharedport/factory/manager_view."""
