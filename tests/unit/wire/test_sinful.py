"""HTCondor addresses, held against what its daemons print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.values import naming
from vine_sharedport.errors import SettingError, SinfulError
from vine_sharedport.wire.sinful import MAX_SINFUL, Sinful

DIRECTORY = Path(__file__).parents[2] / "vectors"
FILES = sorted(DIRECTORY.glob("sinful-*.json"))
VECTORS: list[tuple[str, dict[str, Any]]] = [
    (path.stem, vector) for path in FILES for vector in json.loads(path.read_text())["vectors"]
]
ADDRESSES = sorted({v["text"] for _, v in VECTORS if v["attribute"] != "AddressV1"})

# Everything at once: two brokers, one with parameters of its own; an unknown flag and
# an unknown parameter; an order that is not HTCondor's.
FULL = (
    "<[fd77::1]:9618?noUDP&CCBID=192.0.2.1:9618%3faddrs%3d192.0.2.1-9618%26sock%3dcollector#742"
    "%20192.0.2.2:9618#7&sock=vine_42&future=x%2fy&PrivNet=cluster"
    "&PrivAddr=%3c10.0.0.17:9618%3fsock%3dvine_42%26future%3dx%252fy%3e&flag"
    "&addrs=10.77.0.1-9618+[fd77--1]-9618&alias=ap.example.org>"
)


# --- what HTCondor prints -------------------------------------------------------------


def test_vectors_of_both_versions_are_here() -> None:
    assert {"sinful-23.9.6", "sinful-25.14.1"} <= {path.stem for path in FILES}
    assert len(ADDRESSES) >= 20


@pytest.mark.parametrize("text", ADDRESSES)
def test_address_that_htcondor_prints_is_given_back_byte_for_byte(text: str) -> None:
    address = Sinful.parse(text)
    assert address.format() == str(address) == text
    assert address.port == 9621
    # Its parameters are sorted, as those we add are.
    names = [name for name, _ in address.params]
    assert names == sorted(names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_with_sock_makes_of_the_shared_ports_address_what_a_daemon_behind_it_prints(
    path: Path,
) -> None:
    vectors = [v for stem, v in VECTORS if stem == path.stem and v["attribute"] == "MyAddress"]
    shared_port = {
        v["case"]: v["text"] for v in vectors if v["program"] == "condor_shared_port"
    }
    schedd = {v["case"]: v["text"] for v in vectors if v["program"] == "condor_schedd"}
    assert shared_port.keys() == schedd.keys()
    for case, text in schedd.items():
        sock = Sinful.parse(text).sock
        assert sock is not None
        assert Sinful.parse(shared_port[case]).with_sock(sock).format() == text, case
        # And from the schedd's address, for want of the shared port's.
        assert Sinful.parse(text).with_sock("a").with_sock(sock).format() == text, case
        assert Sinful.parse(text).without("sock").with_sock(sock).format() == text, case


def test_version_1_address_is_refused_by_name() -> None:
    texts = [v["text"] for _, v in VECTORS if v["attribute"] == "AddressV1"]
    assert texts
    for text in texts:
        with pytest.raises(SinfulError, match=naming("AddressV1")):
            Sinful.parse(text)


@pytest.mark.parametrize("text", [ADDRESSES[0], ADDRESSES[-1], FULL])
def test_no_proper_part_of_an_address_is_one(text: str) -> None:
    for end in range(len(text)):
        with pytest.raises(SinfulError):
            Sinful.parse(text[:end])
    for trailing in (" ", "\n", ">", "\0", text):
        with pytest.raises(SinfulError):
            Sinful.parse(text + trailing)


# --- parts ----------------------------------------------------------------------------


def test_every_part_is_read() -> None:
    address = Sinful.parse(FULL)
    assert (address.host, address.port) == ("fd77::1", 9618)
    assert address.sock == "vine_42"
    assert address.alias == "ap.example.org"
    assert address.addrs == [("10.77.0.1", 9618), ("fd77::1", 9618)]
    assert address.no_udp
    assert address.ccbid == (
        "192.0.2.1:9618?addrs=192.0.2.1-9618&sock=collector#742 192.0.2.2:9618#7"
    )
    assert address.private_network == "cluster"
    private = address.private_address
    assert private == Sinful("10.0.0.17", 9618, (("sock", "vine_42"), ("future", "x/y")))
    assert address.get("future") == "x/y"
    assert address.get("flag") == ""
    assert address.params[-3] == ("flag", None)
    assert address.format() == FULL


def test_bare_address_has_nothing() -> None:
    address = Sinful.parse("<192.0.2.7:9618>")
    assert address == Sinful("192.0.2.7", 9618)
    assert address.sock is None
    assert address.alias is None
    assert address.ccbid is None
    assert address.private_network is None
    assert address.private_address is None
    assert address.get("sock") is None
    assert address.addrs == []
    assert not address.no_udp


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("<h>", "h", None),
        ("<h?sock=a>", "h", None),
        ("<h:0>", "h", 0),
        ("<h:65535>", "h", 65535),
        ("<h:09618>", "h", 9618),
        ("<192.0.2.7:1?>", "192.0.2.7", 1),
        ("<[::1]:1>", "::1", 1),
        ("<[::1]>", "::1", None),
        ("<[::ffff:192.0.2.7]:1>", "::ffff:192.0.2.7", 1),
        ("<AP-1.example_org.:1>", "AP-1.example_org.", 1),
    ],
)
def test_host_and_port(text: str, host: str, port: int | None) -> None:
    address = Sinful.parse(text)
    assert (address.host, address.port) == (host, port)
    assert Sinful.parse(address.format()) == address


@pytest.mark.parametrize(
    ("query", "params"),
    [
        ("a=1;b=2", (("a", "1"), ("b", "2"))),
        ("&;&a=1&&b;;", (("a", "1"), ("b", None))),
        ("a=", (("a", ""),)),
        ("a=1=2", (("a", "1=2"),)),
        ("a=?", (("a", "?"),)),
        ("a=%41%4a%4A", (("a", "AJJ"),)),
        ("%61=1", (("a", "1"),)),
        ("a=%2541", (("a", "%41"),)),
        ("a=1+1", (("a", "1+1"),)),
        ("a=%20", (("a", " "),)),
        ("Sock=1&sock=2", (("Sock", "1"), ("sock", "2"))),
        ("a=1&b=2&a=3", (("a", "3"), ("b", "2"))),
        ("a=1&a", (("a", None),)),
    ],
)
def test_parameters_are_read_as_htcondor_reads_them(
    query: str, params: tuple[tuple[str, str | None], ...]
) -> None:
    assert Sinful.parse(f"<h:1?{query}>").params == params


def test_everything_outside_htcondors_set_is_escaped_in_lower_case() -> None:
    printable = "".join(map(chr, range(32, 127)))
    address = Sinful("h", 1, (("a", printable),))
    assert address.format() == (
        "<h:1?a=%20%21%22#%24%25%26%27%28%29%2a+%2c-.%2f0123456789:%3b%3c%3d%3e%3f%40"
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ[%5c]%5e_%60abcdefghijklmnopqrstuvwxyz%7b%7c%7d%7e>"
    )
    assert Sinful.parse(address.format()) == address


@pytest.mark.parametrize(
    ("value", "addrs"),
    [
        ("", []),
        ("192.0.2.7-9618", [("192.0.2.7", 9618)]),
        ("[192.0.2.7]-1", [("192.0.2.7", 1)]),  # a mapped address, as HTCondor prints it
        ("[--1]-0+[2001-db8--7]-65535", [("::1", 0), ("2001:db8::7", 65535)]),
        ("[::1]-1", [("::1", 1)]),
        ("--1-9618", [("::1", 9618)]),
        ("+192.0.2.7-1++", [("192.0.2.7", 1)]),
    ],
)
def test_addrs(value: str, addrs: list[tuple[str, int]]) -> None:
    assert Sinful.parse(f"<h:1?addrs={value}>").addrs == addrs


# --- changes --------------------------------------------------------------------------


def test_parameter_is_changed_in_place_and_added_where_htcondor_prints_it() -> None:
    address = Sinful.parse("<h:1?alias=x&sock=a>")
    assert str(address.with_param("alias", "y z")) == "<h:1?alias=y%20z&sock=a>"
    assert str(address.with_param("noUDP", None)) == "<h:1?alias=x&noUDP&sock=a>"
    assert str(address.with_param("PrivNet", "n")) == "<h:1?PrivNet=n&alias=x&sock=a>"
    assert str(address.with_param("z", "")) == "<h:1?alias=x&sock=a&z=>"
    assert str(address.without("alias").without("absent")) == "<h:1?sock=a>"
    assert str(address.without("alias").without("sock")) == "<h:1>"
    assert str(address) == "<h:1?alias=x&sock=a>"


def test_with_sock_changes_the_private_address_too_and_nothing_else() -> None:
    address = Sinful.parse(FULL).with_sock("other")
    assert str(address) == FULL.replace("vine_42", "other")


def test_with_sock_leaves_the_brokers_theirs() -> None:
    address = Sinful.parse("<h:1?CCBID=192.0.2.1:9618%3fsock%3dcollector#1>").with_sock("a")
    assert str(address) == "<h:1?CCBID=192.0.2.1:9618%3fsock%3dcollector#1&sock=a>"


@pytest.mark.parametrize("sock_id", ["", "a b", "../a", "i" * 42, "self"])
def test_with_sock_takes_only_sock_ids_that_can_be_served(sock_id: str) -> None:
    with pytest.raises(SettingError):
        Sinful.parse("<h:1?sock=a>").with_sock(sock_id)


# --- refusals -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", ("''", "<host:port?sock=id>")),
        ("<", ("'<'", "<host:port?sock=id>")),
        ("h:1", ("'h:1'", "<host:port?sock=id>")),
        ("<h:1", ("'<h:1'", "<host:port?sock=id>")),
        ("h:1>", ("'h:1>'", "<host:port?sock=id>")),
        (" <h:1>", ("' <h:1>'", "<host:port?sock=id>")),
        ("<h:1>\n", ("'<h:1>\\n'", "<host:port?sock=id>")),
        ("{}", ("'{}'", "AddressV1")),
        ("[::1]:9618", ("'[::1]:9618'", "AddressV1")),
        ("<>", ("''", "IPv4")),
        ("<:1>", ("''", "IPv4")),
        ("<?addrs=1.2.3.4-5>", ("''", "IPv4")),
        ("<h:>", ("':'", "65535")),
        ("<h:1x>", ("':1x'", "65535")),
        ("<h:-1>", ("':-1'", "65535")),
        ("<h:+1>", ("':+1'", "65535")),
        ("<h:123456>", ("':123456'", "65535")),
        ("<h:65536>", (65536, "65535")),
        ("<::1:9618>", ("'::1:9618'", "65535", "IPv6")),
        ("<[::1:9618>", ("'[::1:9618'", "IPv6")),
        ("<[h]:9618>", ("'[h]:9618'", "IPv6")),
        ("<[192.0.2.7]:1>", ("'[192.0.2.7]:1'", "IPv6")),
        ("<[::1]x:1>", ("'x:1'", "65535")),
        ("<[::g]:1>", ("'::g'", "2001:db8::7")),
        ("<[fe80::1%25eth0]:1>", ("'fe80::1%25eth0'", "2001:db8::7")),
        ("<[fe80::1%eth0]:1>", ("'fe80::1%eth0'", "2001:db8::7")),
        ("<[]:1>", ("'[]:1'", "IPv6")),
        ("<10.1:1>", ("'10.1'", "2001:db8::7")),
        ("<256.0.0.1:1>", ("'256.0.0.1'", "2001:db8::7")),
        ("<1.2.3.4.:1>", ("'1.2.3.4.'", "2001:db8::7")),
        ("<2130706433:1>", ("'2130706433'", "2001:db8::7")),
        ("<0x7f.0x1:1>", ("'0x7f.0x1'", "2001:db8::7")),
        ("<-h:1>", ("'-h'", "IPv4")),
        ("<a..b:1>", ("'a..b'", "IPv4")),
        ("<a/b:1>", ("'a/b'", "IPv4")),
        ("<h%2e:1>", ("'h%2e'", "IPv4")),
        pytest.param(f"<{'a' * 64}:1>", ("IPv4",), id="label of 64 characters"),
        pytest.param(f"<{'a.' * 127}:1>", ("IPv4",), id="name of 254 characters"),
        ("<h:1?a b>", ("'<h:1?a b>'", "ASCII")),
        ("<h:1?a=\t>", ("'<h:1?a=\\t>'", "ASCII")),
        ("<h:1?a=\x00>", ("'<h:1?a=\\x00>'", "ASCII")),
        ("<h:1?a=\x7f>", ("'<h:1?a=\\x7f>'", "ASCII")),
        ("<h:1?a=é>", ("'<h:1?a=\\xe9>'", "ASCII")),
        ("<h:\u0661>", ("'<h:\\u0661>'", "ASCII")),  # an Arabic digit one
        ("<h:1?a=<b>", ("'<h:1?a=<b>'", "'<'", "%3c")),
        ("<h:1?a=b>>", ("'<h:1?a=b>>'", "'<'", "%3c")),
        ("<h:1>,<h:2?a>", ("':1>,<h:2'", "65535", "IPv6")),
        ("<h:1?a=b,c>", ("'<h:1?a=b,c>'", "'<'", "%3c")),
        ("<h:1?=b>", ("''", "ASCII")),
        ("<h:1?a=%>", ("'%'",)),
        ("<h:1?a=%4>", ("'%4'",)),
        ("<h:1?a=%4&1>", ("'%4'",)),
        ("<h:1?a=%4g>", ("'%4g'",)),
        ("<h:1?%=1>", ("'%'",)),
        ("<h:1?a=%00>", ("'a'", "'\\x00'", "ASCII")),
        ("<h:1?a=x%0aMyAddress%20=>", ("'a'", "'x\\nMyAddress ='", "ASCII")),
        ("<h:1?alias=%1b[2J>", ("'alias'", "'\\x1b[2J'", "ASCII")),
        ("<h:1?a=%7f>", ("'a'", "'\\x7f'", "ASCII")),
        ("<h:1?a=%c3%a9>", ("'a'", "'\\xc3\\xa9'", "ASCII")),  # HTCondor would print %ff%ff
        ("<h:1?%0a=1>", ("'\\n'", "ASCII")),
        ("<h:1?addrs=192.0.2.7>", ("'192.0.2.7'", "192.0.2.7-9618")),
        ("<h:1?addrs=192.0.2.7->", ("'192.0.2.7-'", "192.0.2.7-9618")),
        ("<h:1?addrs=192.0.2.7-65536>", ("'192.0.2.7-65536'", "192.0.2.7-9618")),
        ("<h:1?addrs=192.0.2.7:9618>", ("'192.0.2.7:9618'", "192.0.2.7-9618")),
        ("<h:1?addrs=192.0.2.7-9618%20>", ("'192.0.2.7-9618 '", "192.0.2.7-9618")),
        ("<h:1?addrs=192.0.2.7-+1>", ("'192.0.2.7-'", "192.0.2.7-9618")),
        ("<h:1?addrs=h-9618>", ("'h'", "2001:db8::7")),
        ("<h:1?addrs=-9618>", ("''", "2001:db8::7")),
        ("<h:1?addrs=[--1]x-9618>", ("'[::1]x'", "2001:db8::7")),
        ("<h:1?addrs=[[--1]]-9618>", ("'[::1]'", "2001:db8::7")),
        (
            "<h:1?PrivAddr=10.0.0.1:9618>",
            ("PrivAddr", "<host:port?sock=id>"),
        ),
        ("<h:1?PrivAddr=%3ch:x%3e>", ("PrivAddr", "':x'", "65535")),
        ("<h:1?PrivAddr=%3ch:1%3faddrs%3dx%3e>", ("PrivAddr", "'x'", "192.0.2.7-9618")),
        ("<h:1?PrivAddr=%3ch%3fPrivAddr%3d%253ch%253e%3e>", ("PrivAddr", "HTCondor")),
    ],
)
def test_text_that_is_no_address_is_refused(text: str, values: tuple[object, ...]) -> None:
    with pytest.raises(SinfulError, match=naming(*values)) as caught:
        Sinful.parse(text)
    # It may go to a log or terminal, whoever wrote the text.
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_size_is_bounded_as_read_and_as_printed() -> None:
    fits = "<h:1?a=" + "b" * (MAX_SINFUL - 8) + ">"
    assert len(fits) == MAX_SINFUL
    assert Sinful.parse(fits).format() == fits
    with pytest.raises(SinfulError, match=naming(MAX_SINFUL + 1, MAX_SINFUL)):
        Sinful.parse(fits.replace("b>", "bb>"))
    with pytest.raises(SinfulError, match=naming(MAX_SINFUL)):
        Sinful.parse("<h:1?a=" + "~" * (MAX_SINFUL // 2) + ">")
    with pytest.raises(SinfulError, match=naming(MAX_SINFUL + 2, MAX_SINFUL)):
        Sinful.parse("<h?" + "&" * (MAX_SINFUL - 2) + ">")
    with pytest.raises(SinfulError, match=naming(MAX_SINFUL)):
        Sinful.parse(fits).with_sock("vine_42")


def test_private_addresses_nested_as_deep_as_the_limit_allows_are_refused() -> None:
    text = "<h>"
    while len(text) < MAX_SINFUL // 2:
        inner = "".join(c if c.isalnum() else f"%{ord(c):02x}" for c in text)
        text = f"<h?PrivAddr={inner}>"
    with pytest.raises(SinfulError, match=r"^PrivAddr: [^']*$"):  # and not of what is inside
        Sinful.parse(text)


@pytest.mark.parametrize(
    ("host", "port", "params", "values"),
    [
        ("", 1, (), ("''", "IPv4")),
        ("[::1]", 1, (), ("'[::1]'", "2001:db8::7")),
        ("h>", 1, (), ("'h>'", "IPv4")),
        ("h\n", 1, (), ("'h\\n'", "IPv4")),
        ("h", -1, (), (-1, "65535")),
        ("h", 65536, (), (65536, "65535")),
        ("h", 1, (("", "x"),), ("''", "ASCII")),
        ("h", 1, (("a", "é"),), ("'a'", "'\\xe9'", "ASCII")),
        ("h", 1, (("a", "\n"),), ("'a'", "'\\n'", "ASCII")),
        ("h", 1, (("a", "1"), ("a", None)), ("'a'",)),
        ("h", 1, (("addrs", "x"),), ("'x'", "192.0.2.7-9618")),
        ("h", 1, (("PrivAddr", "x"),), ("PrivAddr", "'x'", "<host:port?sock=id>")),
        ("h", 1, (("a", "b" * MAX_SINFUL),), (MAX_SINFUL,)),
    ],
    ids=range(13),
)
def test_address_that_could_not_be_printed_cannot_be_made(
    host: str, port: int, params: tuple[tuple[str, str | None], ...], values: tuple[object, ...]
) -> None:
    with pytest.raises(SinfulError, match=naming(*values)):
        Sinful(host, port, params)


def test_error_is_a_value_error_too() -> None:
    with pytest.raises(ValueError, match="'x'"):
        Sinful.parse("x")
