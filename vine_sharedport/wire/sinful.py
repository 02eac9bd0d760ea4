"""HTCondor addresses ("sinful strings") as text.

::

    <host:port?name=value&name&...>      an IPv6 host stands in brackets

Names and values are percent-encoded. What we accept is what HTCondor reads as we
do: text that its own parser misreads, or its tools cut in two, is refused here.
Parameters keep their order, unknown ones too, so that ``format`` gives back
every address that HTCondor prints, byte for byte.

Source: ``src/condor_utils/condor_sinful.cpp``, in HTCondor's repository. CEDAR
3.1 describes the same text with two slips: the parameter is ``CCBID``, not
``ccbid`` (names are compared with their case), and ``#`` is not escaped.
"""

from __future__ import annotations

import ipaddress
import re
import string
from dataclasses import dataclass, replace

from vine_sharedport.errors import SinfulError
from vine_sharedport.wire.handoff import check_sock_id

__all__ = ["MAX_SINFUL", "Sinful"]

# HTCondor has no limit. Addresses of daemons stay below 1 kB; each further CCB
# broker adds some 100 to 300 bytes. 16 KiB leaves room for dozens of them, fits a
# job's environment (one variable: 128 KiB in Linux), and bounds hostile input.
MAX_SINFUL = 16 * 1024

_MAX_PORT = 65535

# needsUrlEncodeEscape(): everything else is written as %xx, in lower case.
_UNESCAPED = frozenset(string.ascii_letters + string.digits + "._-:#[]+")

# Raw text. A blank or comma would end the address in HTCondor's lists of
# addresses ("at the very least, we need to escape &;> ,"), '<' and '>' end it
# anywhere, and urlEncode() turns every byte above 0x7e into "%ff".
_RAW = re.compile(r"[!-~]*\Z")
_RAW_PARAMS = re.compile(r"[^<>,]*\Z")

# Decoded text. A NUL cuts a value short in getParam(); other control characters
# have no use but to forge lines of logs and files.
_DECODED = re.compile(r"[ -~]*\Z")

_PORT = re.compile(r"[0-9]{1,5}\Z")
_PERCENT = re.compile(r"%(.{0,2})")
_HEX_PAIR = re.compile(r"[0-9A-Fa-f]{2}\Z")

# Names of the DNS, with the underscore that some sites use. Python's resolver
# raises UnicodeError for an empty label or one above 63 characters.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\.?\Z")
_NUMBER = re.compile(r"(?:[0-9]+|0[Xx][0-9A-Fa-f]*)\Z")


@dataclass(frozen=True)
class Sinful:
    """One HTCondor address.

    Every instance can be formatted, and parsing that gives an equal one.

    Attributes:
        host: Name or literal address, without brackets.
        port: TCP port; 0 in addresses of daemons that do not know their shared
            port yet; None when the text has none.
        params: Names and values, decoded, in order, each name once. The value
            None is a name without ``=value``, such as ``noUDP``.

    Raises:
        SinfulError: A part that HTCondor would not read as we do.
    """

    host: str
    port: int | None = None
    params: tuple[tuple[str, str | None], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what could not be formatted and parsed again."""
        _check_host(self.host)
        if self.port is not None and not 0 <= self.port <= _MAX_PORT:
            raise SinfulError(f"port is {self.port}", step=f"a TCP port is 0 to {_MAX_PORT}")
        seen = set()
        for name, value in self.params:
            if not name or not _DECODED.match(name):
                raise SinfulError(
                    f"parameter name {_excerpt(name)} is not one", step="use printable ASCII"
                )
            if name in seen:
                raise SinfulError(
                    f"parameter {_excerpt(name)} is there twice", step="give it once"
                )
            if value is not None and not _DECODED.match(value):
                raise SinfulError(
                    f"parameter {_excerpt(name)} has the value {_excerpt(value)}",
                    step="HTCondor carries printable ASCII only",
                )
            seen.add(name)
        # Properties read these two: judged here, they cannot fail later.
        _parse_addrs(self.get("addrs") or "")
        try:
            private = self.private_address
        except SinfulError as error:
            raise SinfulError(f"PrivAddr: {error.cause}", step=error.step) from error
        if private is not None and private.get("PrivAddr") is not None:
            raise SinfulError("PrivAddr: it has one inside", step="HTCondor never nests them")
        _check_size(self.format())

    @classmethod
    def parse(cls, text: str) -> Sinful:
        """Return the address that the text spells.

        Accepts what HTCondor's own parser accepts between ``<`` and ``>``:
        ``&`` and ``;`` as separators, hexadecimal digits in either case, and of a
        name given twice the last value. ``addrs`` and ``PrivAddr`` are parsed too.

        Args:
            text: The whole address, at most ``MAX_SINFUL`` characters.

        Raises:
            SinfulError: It is no address, or none that HTCondor reads the same way.

        Source: ``split_sin`` and ``parseUrlEncodedParams``.
        """
        _check_size(text)
        if text[:1] in ("{", "["):
            # getV1String(); daemons put it into their ads as AddressV1. HTCondor's
            # header calls it "born deprecated", and it says less than MyAddress.
            raise SinfulError(
                f"{_excerpt(text)} is not of the form <host:port?...>",
                step="'{[...]}' is a "
                "version 1 address (attribute AddressV1); use the attribute MyAddress",
            )
        if len(text) < 2 or text[0] != "<" or text[-1] != ">":
            raise SinfulError(
                f"{_excerpt(text)} is no HTCondor address",
                step="write <host:port?sock=id>, with "
                "the angle brackets (and in a shell, in quotes)",
            )
        if not _RAW.match(text):
            raise SinfulError(
                f"{_excerpt(text)} has a blank, control or non-ASCII character",
                step="percent-encode it",
            )
        location, _, query = text[1:-1].partition("?")
        if not _RAW_PARAMS.match(query):
            raise SinfulError(
                f"{_excerpt(text)} has a '<', '>' or ',' among its parameters",
                step="write it as %3c, %3e or %2c",
            )
        host, port = _split_location(location)
        # A dict keeps the place of the first and the value of the last.
        return cls(host, port, tuple(dict(_parse_params(query)).items()))

    def format(self) -> str:
        """Return the text, escaped as HTCondor escapes it.

        Source: ``regenerateSinfulString`` and ``urlEncodeParams``.
        """
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        query = "&".join(
            _escape(name) if value is None else f"{_escape(name)}={_escape(value)}"
            for name, value in self.params
        )
        return f"<{host}{port}{'?' if query else ''}{query}>"

    def __str__(self) -> str:
        """Return the text; see ``format``."""
        return self.format()

    def get(self, name: str) -> str | None:
        """Return a parameter's value, ``""`` if it has none, None if it is absent."""
        for known, value in self.params:
            if known == name:
                return value or ""
        return None

    def with_param(self, name: str, value: str | None) -> Sinful:
        """Return a copy with the parameter set; None sets it without ``=value``.

        A known parameter keeps its place. A new one goes where HTCondor, which
        sorts by name, would print it.

        Raises:
            SinfulError: The name or value cannot be written.
        """
        params = list(self.params)
        names = [known for known, _ in params]
        if name in names:
            params[names.index(name)] = (name, value)
        else:
            at = next((i for i, known in enumerate(names) if known > name), len(params))
            params.insert(at, (name, value))
        return replace(self, params=tuple(params))

    def without(self, name: str) -> Sinful:
        """Return a copy that lacks the parameter."""
        return replace(self, params=tuple(p for p in self.params if p[0] != name))

    def with_sock(self, sock_id: str) -> Sinful:
        """Return the address of another endpoint behind the same shared port.

        ``PrivAddr`` leads to the same daemon by another network, so it gets the
        same sock id, whether it had one or not. The brokers in ``CCBID`` are other
        daemons and keep theirs.

        Raises:
            SettingError: The sock id is none; see ``check_sock_id``.
            SinfulError: The address becomes longer than ``MAX_SINFUL``.

        Source: ``SharedPortEndpoint::InitRemoteAddress``, which does the same to
        the shared port's address.
        """
        address = self.with_param("sock", check_sock_id(sock_id))
        private = self.private_address
        if private is None:
            return address
        return address.with_param("PrivAddr", private.with_param("sock", sock_id).format())

    @property
    def sock(self) -> str | None:
        """The sock id as written, unchecked; None without one."""
        return self.get("sock")

    @property
    def alias(self) -> str | None:
        """The host name to verify certificates against; None without one."""
        return self.get("alias")

    @property
    def addrs(self) -> list[tuple[str, int]]:
        """Literal addresses (no brackets) and ports, in order; empty without any.

        When there are some, HTCondor connects to one of them and to ``host`` only
        if there are none.

        Source: ``from_ccb_safe_string`` in ``src/condor_utils/condor_sockaddr.cpp``.
        """
        return _parse_addrs(self.get("addrs") or "")

    @property
    def no_udp(self) -> bool:
        """Whether the daemon takes no UDP; the mere presence of ``noUDP`` says so."""
        return self.get("noUDP") is not None

    @property
    def ccbid(self) -> str | None:
        """CCB contacts ``broker#id``, separated by blanks; None without any.

        A broker is an address without its angle brackets, percent-encoded once
        more where it has parameters.
        """
        return self.get("CCBID")

    @property
    def private_network(self) -> str | None:
        """Name of the network in which ``private_address`` holds; None without."""
        return self.get("PrivNet")

    @property
    def private_address(self) -> Sinful | None:
        """Address within ``private_network``; None without one."""
        text = self.get("PrivAddr")
        return Sinful.parse(text) if text else None


def _check_size(text: str) -> None:
    """Refuse text beyond the limit."""
    if len(text) > MAX_SINFUL:
        raise SinfulError(
            f"address of {len(text)} characters",
            step=f"the limit is {MAX_SINFUL}; drop parameters that are not needed",
        )


def _split_location(location: str) -> tuple[str, int | None]:
    """Split what stands before the parameters into host and port."""
    if location.startswith("["):
        host, bracket, rest = location[1:].partition("]")
        if not bracket or ":" not in host:
            raise SinfulError(
                f"host {_excerpt(location)} is no [IPv6 address]", step="close the bracket"
            )
    else:
        host, _, _ = location.partition(":")
        rest = location[len(host) :]
    if not rest:
        return host, None
    if rest[0] != ":" or not _PORT.match(rest[1:]):
        raise SinfulError(
            f"{_excerpt(rest)} follows the host; wanted ':' and a port of 0 to {_MAX_PORT}"
            + ("; write an IPv6 address in brackets" if rest.count(":") > 1 else "")
        )
    return host, int(rest[1:])


def _check_host(host: str) -> None:
    """Refuse a host that is no name and no literal address."""
    if ":" in host:
        _check_literal(host)
    elif not _HOST_NAME.match(host):
        raise SinfulError(
            f"host is {_excerpt(host)}",
            step="wanted a name, an IPv4 address or an [IPv6 address]",
        )
    elif _NUMBER.match(host.rstrip(".").rpartition(".")[2]):
        # "10.1" is 10.0.0.1 to some resolvers; HTCondor's inet_pton() refuses it.
        _check_literal(host)


def _check_literal(host: str) -> None:
    """Refuse what ``inet_pton`` would not read as an address."""
    try:
        # ipaddress knows zones ("fe80::1%eth0"), inet_pton() does not.
        ipaddress.ip_address(host if "%" not in host else "")
    except ValueError as error:
        raise SinfulError(
            f"{_excerpt(host)} is no IP address", step="write 192.0.2.7 or 2001:db8::7"
        ) from error


def _parse_params(query: str) -> list[tuple[str, str | None]]:
    """Return the decoded parameters, repeated names included."""
    params: list[tuple[str, str | None]] = []
    for item in re.split("[&;]+", query):
        if not item:
            continue
        name, equals, value = item.partition("=")
        params.append((_unescape(name), _unescape(value) if equals else None))
    return params


def _parse_addrs(value: str) -> list[tuple[str, int]]:
    """Return the addresses of an ``addrs`` value: ``ip-port`` joined by ``+``."""
    addrs = []
    for item in filter(None, value.split("+")):
        # The colons of an IPv6 address are written as '-' too, so the last one counts.
        host, _, port = item.rpartition("-")
        host = host.replace("-", ":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        if not _PORT.match(port) or int(port) > _MAX_PORT:
            raise SinfulError(
                f"addrs has {_excerpt(item)}",
                step="wanted address-port, such as 192.0.2.7-9618 or [2001-db8--7]-9618",
            )
        _check_literal(host)
        addrs.append((host, int(port)))
    return addrs


def _escape(text: str) -> str:
    """Percent-encode as HTCondor does: its own set, two lower-case digits."""
    return "".join(c if c in _UNESCAPED else f"%{ord(c):02x}" for c in text)


def _unescape(text: str) -> str:
    """Undo the percent-encoding, once; '+' is a plus."""

    def decode(match: re.Match[str]) -> str:
        if not _HEX_PAIR.match(match[1]):
            raise SinfulError(
                f"{_excerpt(match[0])} in {_excerpt(text)} is no percent-encoding",
                step="wanted '%' and two hexadecimal digits",
            )
        return chr(int(match[1], 16))

    return _PERCENT.sub(decode, text)


def _excerpt(text: str) -> str:
    """Quote a value for a message: ASCII, cut to a length that fits one."""
    return ascii(text if len(text) <= 80 else f"{text[:77]}...")
