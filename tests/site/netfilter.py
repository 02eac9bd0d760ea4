"""The kernel's filter and its counters, by iptables(8) of either kind."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess

from .hosts import Host

FAMILIES = ("iptables", "ip6tables")
ICMP = {"iptables": "icmp", "ip6tables": "ipv6-icmp"}


@functools.cache
def kind() -> str:
    """Return which iptables(8) works with this kernel: ``nft`` or ``legacy``.

    Raises:
        LookupError: None does; the text says why.
    """
    refusals = []
    for name in ("nft", "legacy"):
        program = f"iptables-{name}"
        if shutil.which(program) is None:
            refusals.append(f"no {program}")
            continue
        done = subprocess.run(
            ["unshare", "--net", "sh", "-ec", f"""
                {program} -t nat -A POSTROUTING -o wan -j MASQUERADE
                {program} -A INPUT -m conntrack --ctstate ESTABLISHED -j DROP
                {program} -A INPUT -m comment --comment x -j DROP
                ip6tables-{name} -t nat -A POSTROUTING -o wan -j MASQUERADE"""],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if not done.returncode:
            return name
        refusals.append(f"{program}: {done.stderr.strip()}")
    raise LookupError("; ".join(refusals))


def load(host: Host, tables: str) -> None:
    """Put rules into effect in both families, in the form of iptables-restore(8)."""
    for family in FAMILIES:
        subprocess.run(
            _within(host, f"{family}-{kind()}-restore"), text=True, check=True,
            input=tables.replace("{icmp}", ICMP[family]),
        )  # fmt: skip


def change(host: Host, *arguments: object) -> None:
    """Change one rule in both families."""
    for family in FAMILIES:
        subprocess.run(_within(host, f"{family}-{kind()}", *arguments), check=True)


def packets(host: Host) -> dict[str, int]:
    """Return how many packets met each rule that has a comment, in both families."""
    found: dict[str, int] = {}
    for family in FAMILIES:
        said = subprocess.run(
            _within(host, f"{family}-{kind()}-save", "-c"),
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        for count, name in re.findall(r"^\[(\d+):\d+\].*--comment \"?([\w-]+)", said, re.M):
            found[name] = found.get(name, 0) + int(count)
    return found


def _within(host: Host, *command: object) -> list[str]:
    return ["nsenter", "--target", str(host.pid), "--net", *map(str, command)]
