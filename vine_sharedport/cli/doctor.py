"""``vine_sharedport doctor``: whether the shared port is usable here."""

from __future__ import annotations

import argparse
import json

from vine_sharedport.cli.common import Subparsers, add_json
from vine_sharedport.errors import ExitStatus

__all__ = ["add_doctor"]


def add_doctor(nouns: Subparsers) -> None:
    """Add the noun ``doctor``."""
    parser = nouns.add_parser(
        "doctor",
        run=_doctor,
        help="check whether HTCondor's shared port is usable here",
        description="Let HTCondor's shared port hand a connection over to a program of yours, "
        "and say in one line whether that works: exit status 0 if it does, 1 if not.",
        example="doctor --json",
    )
    add_json(parser)


def _doctor(options: argparse.Namespace) -> int:
    from vine_sharedport.pool.check import check_shared_port

    found = check_shared_port()
    print(json.dumps(found.as_dict()) if options.json else found)
    return ExitStatus.OK if found.usable else ExitStatus.FAILED
