"""Workers that come, stay as long as they are needed, and are accounted for."""

FACTORIES = "_shared_port_factories"
"""Attribute of a manager: the factories that were made for it."""
