"""TODO vine_sharedport/tcp_servers."""
