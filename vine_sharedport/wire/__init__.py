"""Bytes and text of HTCondor's protocols, without sockets.

Every module here computes only: no socket, no clock, no thread, no log. What a
peer sends comes in as ``bytes`` or ``str``; what comes out is a value, "not
enough yet", or one documented error. ``docs/protocol.md`` maps each byte to the
place in HTCondor that it comes from.
"""

from __future__ import annotations
