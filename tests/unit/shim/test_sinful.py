"""The shim's parser and wire/sinful.py read the same, or the shim refuses."""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import json
import os
import subprocess
from itertools import chain, zip_longest
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vine_sharedport.bundle import shim_build
from vine_sharedport.errors import SettingError, SinfulError
from vine_sharedport.wire.handoff import check_sock_id
from vine_sharedport.wire.sinful import Sinful

from .support import HERE, Once, missing, parts

ROOT = HERE.parents[2]
Plan = list[tuple[str, int, str]]
MAX_CANDIDATES = 32  # the shim's


def plan_of_c(inside: ctypes.CDLL, text: bytes, network: str | None = None) -> Plan | None:
    """Return the shim's candidates, or None if it refuses the address."""
    out = ctypes.create_string_buffer(65536)
    given_network = None if network is None else network.encode()
    if inside.vsp_parse_in(text, given_network, out, ctypes.c_ulong(len(out))) < 0:
        assert out.value.isascii()
        assert len(out.value) > 10  # it says why
        return None
    found = []
    for line in out.value.decode("ascii").splitlines():
        host, port, sock = line.split(" ")
        found.append((host, int(port), sock))
    return found


def plan_of_python(text: str, network: str | None = None) -> Plan | None:
    """Return what our own parser makes of it, in order; None for no manager's address.

    The private address where PrivNet is our network; ``addrs``, the families in turn; the
    host; the alias.
    """
    try:
        address = Sinful.parse(text)
        sock = check_sock_id(address.sock or "")
        private = address.private_address
    except (SinfulError, SettingError):
        return None
    found: Plan = []
    if private is not None and network and address.private_network == network:
        found += _of_one(private, sock)  # the same endpoint's, by another network
    found += _of_one(address, sock)
    first: dict[tuple[str, int], str] = {}
    for host, port, name in found:
        first.setdefault((host, port), name)
    plan = [(host, port, name) for (host, port), name in first.items()]
    return plan[:MAX_CANDIDATES] or None


def _of_one(address: Sinful, sock: str) -> Plan:
    # Port 0 is what a daemon writes that does not know its shared port yet.
    addrs = list(dict.fromkeys(pair for pair in address.addrs if pair[1]))[:MAX_CANDIDATES]
    pairs: list[tuple[str, int]] = []
    if addrs:
        versions = [ipaddress.ip_address(host).version for host, _ in addrs]
        leading = [pair for pair, version in zip(addrs, versions) if version == versions[0]]
        others = [pair for pair in addrs if pair not in leading]
        pairs += filter(None, chain(*zip_longest(leading, others)))
    if address.port:
        pairs.append((address.host, address.port))
        with contextlib.suppress(SinfulError):  # an alias that is no name is passed over
            pairs.append((Sinful(address.alias or "").host, address.port))
    return [(host, port, sock) for host, port in pairs]


def compare(inside: ctypes.CDLL, text: str, network: str | None = None) -> Plan | None:
    """Check what both parsers say; return the shim's plan."""
    in_c = plan_of_c(inside, text.encode("utf-8", "surrogateescape"), network)
    if in_c is not None:
        assert in_c == plan_of_python(text, network), text
    return in_c


GOOD = {
    "<192.0.2.7:9618?sock=vine_42>": ["192.0.2.7 9618"],
    "<192.0.2.7:9618?addrs=192.0.2.7-9618&alias=ap.example.org&noUDP&sock=vine_42>": [
        "192.0.2.7 9618",
        "ap.example.org 9618",
    ],
    "<10.77.0.1:9618?addrs=10.77.0.1-9618+[fd77--1]-9618&alias=host&noUDP&sock=a>": [
        "10.77.0.1 9618",
        "fd77::1 9618",
        "host 9618",
    ],
    "<[2001:db8::7]:9618?addrs=[2001-db8--7]-9618+192.0.2.7-9618&sock=a>": [
        "2001:db8::7 9618",
        "192.0.2.7 9618",
    ],
    "<h:1?addrs=[--1]-1+[--2]-1+[--3]-1+10.0.0.1-1+10.0.0.2-1&sock=a>": [
        "::1 1",
        "10.0.0.1 1",
        "::2 1",
        "10.0.0.2 1",
        "::3 1",
        "h 1",
    ],
    "<ap.example.org.:9618?sock=a>": ["ap.example.org. 9618"],
    "<under_score.example:9618?sock=a>": ["under_score.example 9618"],
    "<10.0.0.1:9618?sock=a;noUDP;;alias=x>": ["10.0.0.1 9618", "x 9618"],
    "<10.0.0.1:9618?sock=a&sock=b>": ["10.0.0.1 9618"],
    "<10.0.0.1:9618?so%63k=%61>": ["10.0.0.1 9618"],
    "<10.0.0.1:00080?sock=a>": ["10.0.0.1 80"],
    "<10.0.0.1:9618?addrs=+10.0.0.1-9618++&sock=a>": ["10.0.0.1 9618"],
    "<[::ffff:10.0.0.1]:9618?sock=a>": ["::ffff:10.0.0.1 9618"],
    "<10.0.0.1?addrs=10.0.0.2-5&sock=a>": ["10.0.0.2 5"],
    "<10.0.0.1:1?alias=not%20a%20name&sock=a>": ["10.0.0.1 1"],
    "<10.0.0.1:9618?CCBID=192.0.2.1:9618%3fsock%3dcollector#12&PrivNet=n&sock=a>": [
        "10.0.0.1 9618"
    ],
    "<10.0.0.1:9618?PrivAddr=%3c10.1.1.1:9618%3fsock%3da%3e&PrivNet=n&sock=a>": [
        "10.0.0.1 9618"
    ],
    "<10.0.0.1:1?sock=" + "x" * 41 + ">": ["10.0.0.1 1"],
    "<10.0.0.1:1?sock=a&junk=" + "x" * 16000 + ">": ["10.0.0.1 1"],
}


@pytest.mark.parametrize("text", GOOD, ids=lambda text: text[:50])
def test_the_candidates_come_in_the_promised_order(inside: ctypes.CDLL, text: str) -> None:
    plan = compare(inside, text)
    assert plan is not None
    assert [f"{host} {port}" for host, port, _ in plan] == GOOD[text]


def test_every_address_that_htcondor_printed_is_read(inside: ctypes.CDLL) -> None:
    seen = 0
    for file in (ROOT / "tests" / "vectors").glob("sinful-*.json"):
        for text in _addresses(json.loads(file.read_text())):
            plan = plan_of_python(text)
            assert compare(inside, text) == plan, text
            seen += plan is not None
    assert seen >= 3


def _addresses(value: object) -> list[str]:
    """Return every address in a vector, each with a sock id if it has none."""
    if isinstance(value, dict):
        return [text for part in value.values() for text in _addresses(part)]
    if isinstance(value, list):
        return [text for part in value for text in _addresses(part)]
    if not isinstance(value, str) or not value.startswith("<"):
        return []
    found = [value]
    with contextlib.suppress(SinfulError):
        found.append(Sinful.parse(value).with_sock("vine_1").format())
    return found


@pytest.mark.parametrize(
    ("network", "hosts"),
    [
        (None, ["192.0.2.7"]),
        ("", ["192.0.2.7"]),
        ("other", ["192.0.2.7"]),
        ("Cluster", ["192.0.2.7"]),
        ("cluster", ["10.1.1.1", "192.0.2.7"]),
    ],
)
def test_the_private_address_comes_first_within_its_network(
    inside: ctypes.CDLL, network: str | None, hosts: list[str]
) -> None:
    text = "<192.0.2.7:9618?PrivAddr=%3c10.1.1.1:9618%3fsock%3db%3e&PrivNet=cluster&sock=a>"
    plan = compare(inside, text, network)
    assert plan is not None
    assert [host for host, _, _ in plan] == hosts
    assert {sock for _, _, sock in plan} == {"a"}  # PrivAddr names the same endpoint


HOSTILE = [
    "", "<", ">", "<>", "<?>", "<:>", "<h>", "<h:1", "h:1>", "<h:1?sock=a>>", "<<h:1?sock=a>",
    "<h:1?>", "<h:1?sock>", "<h:1?sock=>", "<h:1?=a>", "<h:1?sock=.>", "<h:1?sock=..>",
    "<h:1?sock=-a>", "<h:1?sock=a/b>", "<h:1?sock=a%00b>", "<h:1?sock=a%2fb>",
    "<h:1?sock=self>",
    "<h:1?sock=a%>", "<h:1?sock=a%1>", "<h:1?sock=a%gg>", "<h:1?sock=a%7f>", "<h:1?sock=a%ff>",
    "<h:1?sock=a&addrs=->", "<h:1?sock=a&addrs=1-1>", "<h:1?sock=a&addrs=[--1]>",
    "<h:1?sock=a&addrs=[--1]-99999>", "<h:1?sock=a&addrs=[--1-1>", "<h:1?sock=a&addrs=[]-1>",
    "<h:1?sock=a&addrs=%00-1>", "<h:1?sock=a&addrs=fe80--1%25eth0-1>",
    "<[::1:1?sock=a>", "<[]:1?sock=a>", "<[1.2.3.4]:1?sock=a>", "<[::1]1?sock=a>",
    "<[::1]:?sock=a>", "<[:::]:1?sock=a>", "<[1:2:3:4:5:6:7:8:9]:1?sock=a>",
    "<[1::2::3]:1?sock=a>", "<[12345::]:1?sock=a>", "<[::1.2.3]:1?sock=a>",
    "<[::1.2.3.4.5]:1?sock=a>", "<[1:2:3:4:5:6:7:1.2.3.4]:1?sock=a>",
    "<[fe80::1%25e]:1?sock=a>",
    "<h:65536?sock=a>", "<h:000001?sock=a>", "<h:+1?sock=a>", "<h: 1?sock=a>", "<h:1x?sock=a>",
    "<-h:1?sock=a>", "<h-:1?sock=a>", "<h..x:1?sock=a>", "<.h:1?sock=a>", "<.:1?sock=a>",
    "<1.2.3:1?sock=a>", "<1.2.3.04:1?sock=a>", "<1.2.3.4.:1?sock=a>", "<0x7f000001:1?sock=a>",
    "<x.0x:1?sock=a>", "<x.0xg:1?sock=a>", "<x.1:1?sock=a>", "<2130706433:1?sock=a>",
    "<" + "a" * 64 + ":1?sock=a>", "<" + "a." * 127 + ":1?sock=a>",
    "<" + "a." * 126 + ":1?sock=a>",
    "<h:1?sock=a&PrivAddr=x>", "<h:1?sock=a&PrivAddr=%3ch:1%3fPrivAddr%3d%253ch%253e%3e>",
    "<h:1?sock=a&PrivAddr=%3ch:1%3fsock%3d..%3e>", "<h:1?sock=a&PrivAddr>",
    "<h:1?sock=a&PrivAddr=%3c%3e>", "{[p=\"primary\";a=\"1.2.3.4\";port=1]}",
    "<h:1?sock=é>", "<h:1?sock=a\n>", "<h:1?sock=a >", "<h:1?a,b&sock=a>", "<h:1?a<b&sock=a>",
    "<h:1?sock=a&" + "&" * 16000 + ">", "<h:1?sock=a&x=" + "y" * 16384 + ">",
    "<h:1?sock=a&addrs=" + "+".join(f"10.0.{i}.1-1" for i in range(200)) + ">",
    "<h:1?sock=" + "x" * 42 + ">", "<h:1?sock=" + "x" * 5000 + ">",
    "<h:1?sock=a&addrs=" + "1" * 300 + "-1>", "<h:1?sock=a&addrs=[" + "1" * 300 + "]-1>",
    "<h:1?sock=a&alias=" + "x." * 2000 + ">", "<[" + "1" * 300 + "]:1?sock=a>",
    "<h:" + "1" * 300 + "?sock=a>", "<h:1?" + "n" * 5000 + "&sock=a>",
    "<h:1?sock=a?b>", "<h:1??sock=a>", "<h:1?sock=a&sock>", "<h:1?noUDP=&sock=a>",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:50])
@pytest.mark.parametrize("network", [None, "n"])
def test_nothing_is_read_that_python_refuses(
    inside: ctypes.CDLL, text: str, network: str | None
) -> None:
    compare(inside, text, network)


# What real addresses are made of, put together in any order.
PIECES = st.sampled_from(
    [*"<>[]?&;=%+-:.#@/ 01ax_", "::", "10.0.0.1", "255", "256", "fe80", "[--1]-9618", "sock=",
     "sock=vine_1", "addrs=", "addrs=10.0.0.1-9618", "alias=", "alias=host.example", "noUDP",
     "PrivNet=n", "PrivAddr=", "%3c10.1.1.1:9618%3e", "%3c", "%3e", "%00", "%20", "%41",
     "65535",
     "65536", "self", "host", "a" * 41, "x" * 64, "\x7f", "é"]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=14).map("".join)
SINFULS = st.one_of(
    TEXTS,
    TEXTS.map(lambda text: f"<{text}>"),
    TEXTS.map(lambda text: f"<10.0.0.1:9618?sock=a&{text}>"),
    TEXTS.map(lambda text: f"<{text}:9618?sock=a>"),
    TEXTS.map(lambda text: f"<[{text}]:9618?sock=a>"),
    TEXTS.map(lambda text: f"<10.0.0.1:9618?sock=a&addrs={text}>"),
    TEXTS.map(lambda text: f"<10.0.0.1:9618?sock={text}>"),
    TEXTS.map(lambda text: f"<10.0.0.1:9618?sock=a&PrivNet=n&PrivAddr=%3c{text}%3e>"),
    st.ip_addresses(v=6).map(lambda ip: f"<[{ip}]:9618?sock=a>"),
    st.ip_addresses(v=6).map(lambda ip: f"<[{ip.exploded}]:9618?sock=a>"),
    st.text(st.characters(codec="latin-1", exclude_characters="\0"), max_size=60),
)


@settings(max_examples=3000)
@given(text=SINFULS, network=st.sampled_from([None, "n"]))
def test_no_text_is_read_that_python_refuses(
    inside: ctypes.CDLL, text: str, network: str | None
) -> None:
    compare(inside, text.replace("\0", ""), network)


HOSTS = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda ip: f"[{ip}]"),
    st.from_regex(r"[a-z][a-z0-9]{0,8}(\.[a-z]{2,5}){0,2}", fullmatch=True),
)
LITERALS = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda ip: f"[{ip}]".replace(":", "-")),
)
PORTS = st.integers(0, 65535)


@settings(max_examples=1000)
@given(
    host=HOSTS,
    port=PORTS,
    addrs=st.lists(st.tuples(LITERALS, PORTS), max_size=8),
    sock=st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,40}", fullmatch=True),
)
def test_every_address_of_a_manager_is_read_as_python_reads_it(
    inside: ctypes.CDLL, host: str, port: int, addrs: list[tuple[str, int]], sock: str
) -> None:
    joined = "+".join(f"{ip}-{number}" for ip, number in addrs)
    text = f"<{host}:{port}?addrs={joined}&noUDP&sock={sock}>"
    wanted = plan_of_python(text)
    assert compare(inside, text) == wanted
    reachable = port or any(number for _, number in addrs)
    assert (wanted is None) == (sock == "self" or not reachable)


# --- under the sanitizers ---------------------------------------------------------------


@pytest.fixture(scope="session")
def driver(compiler: str, once: Once) -> str:
    """Return the driver with everything checked that gcc and clang can check."""
    if os.environ.get("VINE_SHAREDPORT_SANDBOX") == "proot":
        missing("the address sanitizer does not start under proot")
    command = [compiler, "-std=gnu11", "-O1", "-g", str(HERE / "driver.c")]
    command += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fPIC"]
    command += parts("settings", "candidates", "sinful", "sha256", "kernel")

    def make(place: Path) -> None:
        done = subprocess.run(
            [*command, "-o", str(place / "driver")], capture_output=True, text=True, check=False
        )
        if "cannot find" in done.stderr and "asan" in done.stderr:
            missing("the compiler has no address sanitizer")
        assert done.returncode == 0, done.stderr

    return str(once("driver", make) / "driver")


def run_driver(driver: str, texts: list[bytes]) -> list[str]:
    """Return the driver's answers, one a text."""
    records = b"".join(b"%d\n%s" % (len(text), text) for text in texts)
    environment = {"ASAN_OPTIONS": "abort_on_error=0:exitcode=66:detect_leaks=0"}
    done = subprocess.run(
        [driver], input=records, capture_output=True, timeout=60, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-4000:]
    return done.stdout.decode("ascii").split(".\n")[:-1]


@pytest.mark.parametrize("source", ["lists", "anything"])
def test_the_parser_stays_within_its_memory(
    driver: str, inside: ctypes.CDLL, source: str
) -> None:
    if source == "lists":
        texts = [text.encode() for text in [*GOOD, *HOSTILE]]
        # Every start of a good address ends where somebody did not look for an end.
        for text in list(GOOD)[:8]:
            starts = [text[:size].encode() for size in range(1, len(text))]
            texts += starts + [start + b">" for start in starts]
        answers = run_driver(driver, texts)
        assert len(answers) == len(texts)
        for text, answer in zip(texts, answers):
            assert answer.startswith("-") == (plan_of_c(inside, text) is None), text
        return

    @settings(max_examples=30)
    @given(st.lists(SINFULS, min_size=30, max_size=60))
    def run(found: list[str]) -> None:
        texts = [text.replace("\0", "").encode("utf-8", "surrogateescape") for text in found]
        assert len(run_driver(driver, texts)) == len(texts)

    run()


@pytest.mark.parametrize("ours", [shim_build.LIBRARY, f"/x/{shim_build.LIBRARY}"])
@pytest.mark.parametrize("others", ["libc.so.6", "/opt/" + "a" * 200 + ".so b.so::c.so"])
def test_taking_our_entry_out_copies_over_no_overlap(
    driver: str, ours: str, others: str
) -> None:
    for text in (f"{ours}:{others}", f"{others} {ours}:{others}", f"{ours} {ours}:{others}"):
        assert len(run_driver(driver, [text.encode()])) == 1
