"""Any other TCP server of this host, under a sock id.

``expose`` serves an endpoint and relays each client to the server's port. Called by the
``expose`` noun. Needs no ``ndcctools``, and knows nothing of what the server speaks.
"""
