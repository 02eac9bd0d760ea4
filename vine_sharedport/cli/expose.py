"""The noun ``expose`` of the ``vine_sharedport`` command."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import time

from vine_sharedport import records
from vine_sharedport.cli import common

__all__ = ["add_expose"]

log = logging.getLogger(__name__)


def add_expose(nouns: common.Subparsers) -> None:
    """Add the noun ``expose``."""
    parser = common.add_command(
        nouns, "expose", _expose,
        "Give a TCP server of this host a sock id. Makes it, such as Makeflow or a manager "
        "written in C, reachable through the shared port, by a relay. Runs until it is "
        "ended.",
        example="vine_sharedport expose --port 9123 --shared-port-name makeflow",
    )  # fmt: skip
    parser.add_argument("--port", type=int, help="the server's TCP port")
    common.add_link_options(parser)
    parser.add_argument(
        "--secret-file", metavar="FILE",
        help="where to write the secret that clients need, or to read it if it is there "
        "(default: NAME.secret in the present directory)",
    )  # fmt: skip
    common.add_json(parser)
    common.add_no_own_pool(parser)


def _expose(options: argparse.Namespace) -> int:
    from vine_sharedport.manager.settings import SharedPort
    from vine_sharedport.serving.counters import describe_refused
    from vine_sharedport.tcp_servers.expose import expose

    if options.port is None:
        options.parser.error("give the server's --port")
    if not 0 < options.port < 65536:
        options.parser.error(f"--port {options.port}: a TCP port is 1 to 65535")
    if options.secret_file and not options.gate:
        options.parser.error("--secret-file and --no-gate exclude each other")
    if not options.gate:
        log.warning("--no-gate: everybody who reaches the shared port can connect to the port")
    settings = SharedPort(
        name=options.shared_port_name, gate=options.gate, keepalive=options.keepalive
    )
    common.choose_pool(options)
    for number in (signal.SIGTERM, signal.SIGHUP):  # end as by Ctrl-C, and clean up
        signal.signal(number, signal.default_int_handler)
    with expose(options.port, settings, secret_file=options.secret_file) as link:
        if options.json:
            report = {"address": str(link.address), "secret_file": link.secret_file}
            print(json.dumps(records.as_dict(report)), flush=True)
        else:
            print(f"Port {options.port} is served as {link.address}")
            print(f"Workers: {link.worker_command}", flush=True)
        shown = link.counters
        while True:
            time.sleep(1)
            link.check()
            if link.counters != shown:
                shown = link.counters
                log.info(
                    "accepted %d, refused %s", shown.accepted, describe_refused(shown.refused)
                )
