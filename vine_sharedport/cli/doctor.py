"""``vine_sharedport doctor``: whether the shared port is usable here."""

from __future__ import annotations

import argparse
import json

from vine_sharedport.cli import common
from vine_sharedport.errors import ExitStatus

__all__ = ["add_doctor"]


def add_doctor(nouns: common.Subparsers) -> None:
    """Add the noun ``doctor``."""
    parser = common.add_command(
        nouns, "doctor", _doctor,
        "Check whether HTCondor's shared port is usable here. It hands a connection over to"
        " a program of yours; exit status 0 if that works, 1 if not.",
        example="vine_sharedport doctor --json",
    )  # fmt: skip
    common.add_json(parser)


def _doctor(options: argparse.Namespace) -> int:
    from vine_sharedport.condor.shared_port_check import check_shared_port

    found = check_shared_port()
    print(json.dumps(found.as_dict()) if options.json else found)
    return ExitStatus.OK if found.usable else ExitStatus.FAILED
