"""Try a manager's way in, and tell step by step what each candidate did."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vine_sharedport.dialing.candidates import Candidate, plan
from vine_sharedport.dialing.dial import connect
from vine_sharedport.dialing.race import STAGGER, DialEvent
from vine_sharedport.errors import DialError, ExitStatus, Verdict, WrongSecretError
from vine_sharedport.wire.sinful import Sinful

__all__ = ["Attempted", "attempt"]

_WIDTH = 98

_REACHED = "The access point was reached"

_ADVICE = {
    Verdict.NOBODY_THERE: f"{_REACHED}. Compare the sock= of the address with that of "
    "manager.shared_port.address; if they are equal, start the manager.",
    Verdict.WRONG_SECRET: f"{_REACHED}, and a manager, which is another one than the secret "
    "file's, or has a new secret.",
    Verdict.SECRET_NEEDED: f"{_REACHED}, and the manager.",
    Verdict.UNPROVEN_SERVER: f"{_REACHED}, and somebody without the secret. Copy the file that "
    "manager.shared_port.secret_file names; if it is the same, tell the access point's "
    "administrator.",
    Verdict.CLOSED_AT_GATE: f"{_REACHED}, and a manager, which is ending. Try again later.",
    Verdict.GATE_SILENT: "If the manager was made with gate=False, give no secret file. Else "
    "the address may be that of another machine, or of a proxy.",
    Verdict.NOT_A_GATE: "Something else answers at this address and port: another service, a "
    "manager made with gate=False, or one of another version. Compare both with "
    "manager.shared_port.address.",
    Verdict.CONNECTION_REFUSED: "Refused: the machine is there, and nothing listens on the "
    "port. Compare the port with that of manager.shared_port.address: HTCondor may have "
    "another one now.",
    Verdict.TIMED_OUT: "No answer: usually a firewall on the way, or an address that holds in "
    "another network only. Ask the site whether outbound TCP to this address and port is "
    "permitted.",
    Verdict.NETWORK_UNREACHABLE: "Network unreachable: this machine has no route, often for "
    "want of IPv6.",
    Verdict.HOST_UNREACHABLE: "No route to host: the network knows no such machine, or a "
    "firewall says so.",
    Verdict.NAME_SERVICE: "The name service did not answer: look at /etc/resolv.conf of this "
    "machine.",
    Verdict.NAME_UNKNOWN: "This machine cannot resolve the name: compare it with that of "
    "manager.shared_port.address; if they are equal, look at /etc/resolv.conf.",
}

# Once the access point was reached, it does not matter that other ways failed.
_AT_ACCESS_POINT = {
    Verdict.WRONG_SECRET,
    Verdict.SECRET_NEEDED,
    Verdict.UNPROVEN_SERVER,
    Verdict.CLOSED_AT_GATE,
    Verdict.NOBODY_THERE,
}


@dataclass
class Attempted:
    """What came of an attempt to get in.

    Attributes:
        address: The manager's.
        private_network: This machine's; None for none.
        candidates: What there was to try, in order.
        has_secret: Whether the gate could be tried.
        steps: What happened, in order.
        error: Why it did not work; None if it did.
    """

    address: Sinful
    private_network: str | None
    candidates: list[Candidate]
    has_secret: bool
    steps: list[DialEvent] = field(default_factory=list)
    error: DialError | WrongSecretError | None = None

    @property
    def works(self) -> bool:
        """Whether a worker would get in, as far as that was checked."""
        return self.error is None

    @property
    def exit_status(self) -> ExitStatus:
        """How a command ends that has tried it."""
        return ExitStatus.OK if self.error is None else self.error.exit_status

    @property
    def checked(self) -> str:
        """What a success means, and what it does not."""
        if self.address.sock is None:
            return (
                "Checked: TCP alone. The address names no manager, having no sock=, so "
                "nothing was said to the shared port."
            )
        if self.has_secret:
            return "Checked: TCP, the sock id, and the secret, which both sides hold."
        return (
            "Checked: TCP, and that the shared port did not close the connection at once, as "
            "it does when nobody serves the sock id. Not checked, for want of --secret-file: "
            "whether this manager has a gate, and who answers."
        )

    @property
    def advice(self) -> list[str]:
        """What to do about each kind of failure."""
        if self.error is None:
            return []
        met = {step.verdict for step in self.steps} | {self.error.verdict}
        met = met & _AT_ACCESS_POINT or met
        return [do for verdict, do in _ADVICE.items() if verdict in met]

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON; times in milliseconds."""
        return {
            "works": self.works,
            "address": str(self.address),
            "private_network": self.private_network,
            "candidates": [
                {
                    "number": number,
                    "host": candidate.host,
                    "port": candidate.port,
                    "source": candidate.source,
                    "steps": [
                        {
                            "what": step.what,
                            "host": step.host or None,
                            "at_ms": round(1000 * step.at, 3),
                            "took_ms": round(1000 * step.took, 3),
                            "detail": step.detail or None,
                            "verdict": None if step.verdict is None else step.verdict.value,
                        }
                        for step in self._steps_of(candidate)
                    ],
                }
                for number, candidate in enumerate(self.candidates, 1)
            ],
            "verdict": None if self.error is None else self.error.verdict.value,
            "error": None if self.error is None else str(self.error),
            "advice": self.advice,
            "checked": self.checked if self.works else None,
        }

    def __str__(self) -> str:
        """Return the result in a few lines."""
        if self.error is None:
            last = self.steps[-1]
            text = f"The way in works, by {_place(last)}, after {1000 * last.at:.1f} ms."
            return _wrap(f"{text} {self.checked}")
        # Of a wrong secret the next step depends on where we are, and follows.
        why = self.error.cause if isinstance(self.error, WrongSecretError) else self.error
        return f"The way in does not work: {why}{self._what_to_do()}"

    def explained(self, shim: Sequence[str] = ()) -> str:
        """Return the plan and what each candidate did, then the result.

        Args:
            shim: What the shim did, a line each; nothing if it was not tried.
        """
        lines = [_wrap(f"address  {self.address}", "         "), ""]
        wide = max(len(str(candidate)) for candidate in self.candidates)
        for number, candidate in enumerate(self.candidates, 1):
            start = f"{number:2}  {candidate!s:{wide}}  {candidate.source:8}  "
            room = max(30, _WIDTH - len(start))
            for step in self._outcomes(candidate):
                for line in textwrap.wrap(step, room, break_on_hyphens=False):
                    lines.append((start + line).rstrip())
                    start = " " * len(start)
        for title, said in zip(("shim", *[""] * len(shim)), shim):
            lines += ["", ""][: bool(title)]
            lines.append(_wrap(f"{title:8} {said}", " " * 9))
        result = str(self) if self.works else f"The way in does not work.{self._what_to_do()}"
        return "\n".join([*lines, "", _wrap(self._why()), "", result])

    def _what_to_do(self) -> str:
        return "".join(f"\n- {do}" for do in self.advice)

    def _steps_of(self, candidate: Candidate) -> list[DialEvent]:
        return [step for step in self.steps if step.candidate == candidate]

    def _outcomes(self, candidate: Candidate) -> list[str]:
        """Return what a candidate did, a line for each step worth one."""
        lines = []
        for step in self._steps_of(candidate):
            took = f"{1000 * step.took:.1f} ms"
            by = f"{step.host}: " if candidate.literal is None and step.host else ""
            lines += {
                "connected": [f"{by}connected after {took}"],
                "failed": [f"{by}failed after {took}: {step.detail}"],
                "left": [f"{by}no answer yet after {took}, when another was connected"],
                "resolved": [f"the name service says {step.detail}, after {took}"],
                "sent": ["CONNECT sent"],
                "gate passed": [f"gate passed after {took}"],
                "not closed": [f"not closed for {took}, so somebody serves the sock id"],
                "answered": [f"bytes came after {took}, so somebody is there"],
            }.get(step.what, [])
        return lines or ["not tried: it was not needed"]

    def _why(self) -> str:
        """Say why the candidates have the order that they have."""
        sources = {candidate.source for candidate in self.candidates}
        network = self.address.private_network
        words = []
        if "PrivAddr" in sources:
            words.append(f"PrivAddr is first, as this machine is in its network {network!r}.")
        elif network:
            ours = f"in {self.private_network!r}" if self.private_network else "in none we know"
            words.append(
                f"PrivAddr is left out: it holds in the network {network!r}, and this machine "
                f"is {ours} (--private-network)."
            )
        if "addrs" in sources:
            words.append("addrs are what the host has itself, IPv4 and IPv6 in turns.")
        if "host" in sources:
            words.append("host is what stands first in the address.")
        if "alias" in sources:
            words.append("alias, by the name service, is the last resort.")
        words.append(
            f"The next one starts {1000 * STAGGER:.0f} ms after the one before, or as soon as "
            "that has failed; the first connection wins. Relay and shim do the same."
        )
        return "Order: " + " ".join(words)


def attempt(
    address: Sinful,
    *,
    secret: bytes | None = None,
    timeout: float = 30.0,
    private_network: str | None = None,
) -> Attempted:
    """Try a manager's way in, as a worker would, and close the connection again.

    Args:
        address: The manager's; the other arguments are those of ``connect()``.

    Raises:
        SinfulError: There is nothing in the address to connect to.
        SettingError: Its sock id is none.
    """
    found = Attempted(
        address,
        private_network,
        plan(address, private_network=private_network),
        has_secret=secret is not None,
    )
    try:
        connect(
            address,
            secret=secret,
            timeout=timeout,
            private_network=private_network,
            client_name="vine_sharedport connect",
            check=True,
            on_event=found.steps.append,
        ).close()
    except (DialError, WrongSecretError) as error:
        found.error = error
    return found


def _place(step: DialEvent) -> str:
    candidate = step.candidate
    by = "" if candidate.literal else f" ({step.host})"
    return f"{candidate.host}{by} port {candidate.port}"


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text, _WIDTH, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )
