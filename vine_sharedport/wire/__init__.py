"""Bytes and text of HTCondor's protocols, without sockets.

- ``sinful``: addresses; ``shared_port_ad``: the address in the shared port's ad file.
- ``cedar``: messages, integers and strings; ``handoff``: CONNECT and PASS_SOCK;
  ``reserved_ids``: whom a CONNECT means that is HTCondor's own.
- ``gate``: how both sides prove that they hold the manager's secret.

Called on both sides. Computes only: no socket, no clock, no thread, no log. What a peer sends
comes in as ``bytes`` or ``str``; what comes out is a value, "not enough yet", or one documented
error. ``docs/protocol.md`` maps each byte to the place in HTCondor that it comes from.
"""
