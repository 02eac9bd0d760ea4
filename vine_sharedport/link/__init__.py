"""Sockets: everything between the shared port and the manager, standard library only."""
