"""The shared port's ad file, read without HTCondor's library.

``condor_shared_port`` writes its ad to ``$(SHARED_PORT_DAEMON_AD_FILE)`` (mode
0644, replaced by a rename) whenever its address changes. A long-lived process
that has no business with ``htcondor2`` follows the address here.
"""

from __future__ import annotations

import re

from vine_sharedport.errors import SinfulError
from vine_sharedport.wire.sinful import Sinful

__all__ = ["parse_my_address"]

# One attribute a line, names in any case, values quoted with \" and \\ inside:
# the "old" ClassAd syntax, as written by SharedPortServer::PublishAddress.
_MY_ADDRESS = re.compile(
    r'^[ \t]*MyAddress[ \t]*=[ \t]*"((?:[^"\\\n]|\\.)*)"[ \t\r]*$',
    re.IGNORECASE | re.MULTILINE,
)


def parse_my_address(text: str) -> Sinful:
    """Return the shared port's address from the text of its ad file.

    Args:
        text: The whole file.

    Raises:
        SinfulError: There is no ``MyAddress``, it is no address, or its port is 0,
            which daemons write before they know their port. The daemon may be in
            the middle of a restart: read the file again later.

    Source: ``PublishAddress`` in ``src/condor_io/shared_port_server.cpp``.
    """
    match = _MY_ADDRESS.search(text)
    if match is None:
        raise SinfulError(
            f'no line MyAddress = "<...>" in {len(text)} characters; is this the file that '
            "'condor_config_val SHARED_PORT_DAEMON_AD_FILE' names?"
        )
    address = Sinful.parse(re.sub(r"\\(.)", r"\1", match[1]))
    if not address.port:
        raise SinfulError(f"{address} has no port yet; read the file again later")
    return address
