"""Which managers and servers of this user run on this host.

- ``reference``: one manager, as everybody but its own program knows it.
- ``run_file``: written beside its logs and read by the user's commands.
- ``command_lines``: our command lines, as messages print them.
- ``advice``: the next step for whoever lacks an address or a secret.

Written by the link when it opens; read by factory, jobs and command. A run file says where the
secret is, never the secret. Knows no HTCondor and no ``ndcctools``.
"""
