"""The only code that writes to memory we do not own: one library's import slots.

- ``accept_hook``: gives a manager's accept loop a second source of connections.
- ``tcp_listener``: where the manager's own TCP port listens meanwhile.
- ``elf``: a library's import slots; reads only.
- ``_libc``, ``_callback``: C functions, and callbacks that signals cannot upset.

Called by ``htcondor_shared_link``. Knows no protocol and no HTCondor; a source is whatever has
a descriptor and returns sockets.
"""
