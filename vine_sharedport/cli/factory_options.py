"""The options of ``factory start`` and ``factory run``, by vine_factory's names and letters."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from vine_sharedport.cli import common

__all__ = ["given", "options_parser"]

# The options of vine_factory with the letters that it has for them.
_LETTERS = {
    "manager_name": "-M",
    "batch_type": "-T",
    "config_file": "-C",
    "min_workers": "-w",
    "max_workers": "-W",
    "timeout": "-t",
    "capacity": "-c",
    "extra_options": "-E",
    "password_file": "-P",
    "batch_options": "-B",
    "directory": "-S",
    "debug": "-d",
    "debug_file": "-o",
    "debug_file_size": "-O",
    "foremen_name": "-F",
}

_TIMES = ("cycle", "factory_timeout", "settle", "timeout")


def options_parser() -> common.Parser:
    """Return a parser of every option of a factory, by vine_factory's names."""
    from vine_sharedport.factory.options.schema import ALIASES, REFUSED, Kind, Options

    parser = common.Parser(add_help=False)
    parser.add_argument(
        "manager", nargs="*", metavar="NAME",
        help="the manager's name, its address, or the directory of a factory to start again; "
        "in vine_factory's command lines HOST PORT, to ask the manager by TCP: its workers "
        "need --address all the same",
    )  # fmt: skip
    names: dict[str, list[str]] = {option.name: [] for option in dataclasses.fields(Options)}
    for name in (*names, *REFUSED):
        letter = _LETTERS.get(name)
        names[name] = [*([letter] if letter else []), "--" + name.replace("_", "-")]
    for alias, name in ALIASES.items():
        names[name].append("--" + alias.replace("_", "-"))
    names["manager_name"].insert(1, "-N")
    for option in dataclasses.fields(Options):
        if option.name == "manager_host_port":
            continue
        metavar = "TIME" if option.name in _TIMES else "VALUE"
        metavar = "SIZE" if option.name in ("memory", "disk") else metavar
        text = option.metadata["text"].replace("%", "%%")
        if option.default not in (None, False, ()):
            text += f" (default: {option.default})"
        kind: dict[str, Any] = {"metavar": metavar}
        if isinstance(option.default, bool):
            kind = {"action": "store_const", "const": True}
        elif isinstance(option.default, tuple):
            kind["action"] = "append"
        parser.add_argument(
            *names[option.name], dest=option.name, default=None,
            help=argparse.SUPPRESS if option.metadata["kind"] is Kind.MEANINGLESS else text,
            **kind,
        )  # fmt: skip
    for name in REFUSED:
        parser.add_argument(
            *names[name], dest=name, default=None, nargs="?", const="", help=argparse.SUPPRESS
        )
    parser.add_argument(
        "--work-queue", dest="system", action="store_const", const="work_queue",
        help="the manager is a Work Queue: --system work_queue",
    )  # fmt: skip
    parser.add_argument(
        "--prometheus-file", metavar="FILE",
        help="write the numbers there each cycle, for Prometheus's textfile collector",
    )  # fmt: skip
    parser.add_argument(
        "--dry-run", action="store_true",
        help="print what would be submitted for each worker; submit nothing",
    )  # fmt: skip
    common.add_no_own_pool(parser)
    return parser


def given(options: argparse.Namespace) -> dict[str, Any]:
    """Return the factory's options of the command line."""
    from vine_sharedport.factory.options.schema import KINDS

    return {n: v for n, v in vars(options).items() if n in KINDS and v is not None}
