"""One manager, as everybody but its own program knows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vine_sharedport.dialing.candidates import plan
from vine_sharedport.errors import SettingError, SinfulError
from vine_sharedport.trusted_files import absolute
from vine_sharedport.wire.handoff import check_sock_id
from vine_sharedport.wire.sinful import Sinful

__all__ = ["OWN_ADDRESS", "Reference", "check_address"]

OWN_ADDRESS = "auto"
"""A worker's ``--contact-hostport`` for which the launcher puts the machine's own address."""

_WORKERS: dict[str | None, str] = {
    None: "vine_worker",
    "taskvine": "vine_worker",
    "work_queue": "work_queue_worker",
}


def check_address(address: Sinful, private_network: str | None = None) -> None:
    """Refuse an address that leads to no manager, from a network.

    Raises:
        SinfulError: It names no manager, or nothing to connect to.
    """
    if address.sock is None:
        raise SinfulError(f"the address {address} names no manager: it has no sock= parameter")
    try:
        check_sock_id(address.sock)
    except SettingError as error:
        raise SinfulError(f"the address {address} is no manager's: {error}") from error
    if not plan(address, private_network=private_network):
        raise SinfulError(
            f"the address {address} names no port to connect to",
            step="take the one in manager.shared_port.address",
        )


@dataclass(frozen=True)
class Reference:
    """Which manager is meant, and what it asks of its clients.

    Paths are absolute. A password and a secret are in files, and not here.

    Attributes:
        address: Where clients connect, its sock id included.
        secret_file: File with its secret; None without a gate.
        system: ``taskvine`` or ``work_queue``; None where that is not known, as
            of what ``expose`` serves.
        tls: Whether it speaks TLS. As with TaskVine's own programs nothing is verified.
        tls_sni: Name to ask for in TLS.
        password_file: File whose content, every byte of it, is its password.
        name: What it is called; None without a name.
        directory: Where its run has its files; None if that is not known.
        socket: Path of its endpoint's socket on its host; None if that is not known.
        peer_transfers: Whether its workers fetch from each other: ``off`` or ``site``, as of
            ``SharedPort``; None if that is not known, or never done.
    """

    address: Sinful
    secret_file: str | None = None
    system: str | None = "taskvine"
    tls: bool = False
    tls_sni: str | None = None
    password_file: str | None = None
    name: str | None = None
    directory: str | None = None
    socket: str | None = None
    peer_transfers: str | None = None

    def __post_init__(self) -> None:
        if self.system not in _WORKERS:
            raise SettingError(
                f"system is {self.system!r}, wanted one of {', '.join(filter(None, _WORKERS))}"
            )

    def __str__(self) -> str:
        return str(self.address)

    @classmethod
    def of(
        cls,
        manager: object,
        *,
        secret_file: str | None = None,
        password_file: str | None = None,
    ) -> Reference:
        """Return the reference of a manager, as workers somewhere can use it.

        Args:
            manager: A manager with a shared port, a reference, or an address.
            secret_file: In the place of the one that is known.
            password_file: The same.

        Raises:
            SettingError: It has no shared port.
            SinfulError: The address is none, or leads to no manager.
        """
        if isinstance(manager, str):
            manager = Sinful.parse(manager)
        if isinstance(manager, Sinful):
            manager = cls(manager)
        elif not isinstance(manager, cls):
            manager = getattr(getattr(manager, "shared_port", None), "reference", None)
        if not isinstance(manager, cls):
            raise SettingError(
                "the manager has no shared port, by which the workers would come",
                step="make it with "
                "vine.Manager(shared_port=True). For workers that come by TCP use "
                "vine.StockFactory",
            )
        check_address(manager.address, manager.address.private_network)
        return replace(
            manager,
            secret_file=absolute(secret_file) if secret_file else manager.secret_file,
            password_file=(absolute(password_file) if password_file else manager.password_file),
        )

    @property
    def sock_id(self) -> str:
        """Its name at the shared port."""
        return str(self.address.sock)

    @property
    def worker(self) -> str:
        """The worker's program that is its own, vine_worker where that is not known."""
        return _WORKERS[self.system]

    def worker_options(self, others: Sequence[str] = ()) -> list[str]:
        """Return the options that a worker of it needs on this host, before the others."""
        known: list[str] = []
        if self.tls and "--ssl" not in others:
            known.append("--ssl")
        if self.tls_sni:
            known += ["--tls-sni", self.tls_sni]
        if self.password_file and not {"--password", "-P"} & {*others}:
            known += ["--password", self.password_file]
        told = any(word.startswith("--contact-hostport") for word in others)
        if self.peer_transfers == "site" and self.system == "taskvine" and not told:
            known += ["--contact-hostport", OWN_ADDRESS]
        return [*known, *others]
