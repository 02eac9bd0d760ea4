"""What the nouns of the command share: the parser, options and types of values."""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from vine_sharedport import environment

__all__ = [
    "FAILURE",
    "USAGE_ERROR",
    "Parser",
    "add_link_options",
    "add_no_own_pool",
    "add_private_network",
    "add_secret_file",
    "choose_pool",
    "in_megabytes",
    "nearest",
    "no_address",
    "seconds",
    "warn_of_late_options",
]

log = logging.getLogger(__name__)

USAGE_ERROR = 2
FAILURE = 1

# Verbs that people write without their noun, and whose they most likely are.
_NOUNS = {
    "start": "pool",
    "stop": "pool",
    "env": "pool",
    "submit": "manager",
    "log": "manager",
    "remove": "manager",
    "status": "factory",
    "list": "factory",
}


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the name that was probably meant; None if none is like it.

    Dashes do not count: with them, any two short options are alike.
    """
    names = {name.lstrip("-").lower(): name for name in known}
    found = difflib.get_close_matches(word.lstrip("-").lower(), names, n=1)
    return names[found[0]] if found else None


def in_megabytes(text: str, low: int, high: int) -> str:
    """Return what to write for a size with a unit, as in 2GB; "" if that helps nobody."""
    match = re.fullmatch(r"(\d{1,9})\s*([MGT])i?B?", text.strip(), re.IGNORECASE)
    if match is None:
        return ""
    number = int(match[1]) << 10 * "MGT".index(match[2].upper())
    return f"; write {number}" if low <= number <= high else ""


class Parser(argparse.ArgumentParser):
    """argparse's, whose errors say what was meant and do not repeat the usage.

    Two defaults (``set_defaults``) are for it: ``hint`` is what to add where an option is
    unknown, ``rest`` where to keep what follows ``--`` if that is another program's.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Python 3.14 can guess too, for some errors and in its own words; 3.15 does by itself.
        self.suggest_on_error = False
        self._given: list[str] = []

    def parse_known_args(  # type: ignore[override]  # its overloads are for namespaces of others
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse; what is unknown is told by the parser that it was given to."""
        self._given = list(args or ())
        rest = self.get_default("rest")
        if rest is not None:
            args, theirs = self._at_dashes()
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self._refuse_unknown(unknown)
        if rest is not None:
            setattr(found, rest, theirs)
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and where to read more; exit with status 2."""
        if message.startswith("the following arguments are required"):
            options = [word for word in self._given if self._is_unknown(word)]
            if options:  # the one that is missing is there, misspelt
                self._refuse_unknown(options)
            for action in self._actions:
                if isinstance(action, argparse._SubParsersAction):
                    names = ", ".join(action.choices)
                    message = f"give a {str(action.metavar).lower()}: {names}"
        self.refuse(f"{message}\nSee: {self.prog} --help")

    def refuse(self, message: str) -> NoReturn:
        """Print a message that tells the next step itself; exit with status 2."""
        self.exit(USAGE_ERROR, f"{self.prog}: {message}\n")

    def _is_unknown(self, word: str) -> bool:
        """Whether a word is like a long option and is none."""
        name = word.partition("=")[0]
        return re.match(r"--?[A-Za-z]{2}", name) is not None and not any(
            known.startswith(name) for known in self._option_string_actions
        )

    def _refuse_unknown(self, words: Sequence[str]) -> NoReturn:
        option = next((word for word in words if word.startswith("-")), None)
        if option is None:
            self.error(f"unrecognized arguments: {' '.join(words)}")
        name = option.partition("=")[0]
        command, _, verb = self.prog.partition(" ")
        if name == "--verbose":
            self.refuse(f"--verbose comes first: {command} --verbose {verb} ...")
        meant = nearest(name, self._option_string_actions)
        hint = self.get_default("hint")
        if meant is None and hint is None:
            self.error(f"there is no option {name}")
        if meant is None and self.get_default("rest") is not None:
            # Most likely the other program's: as it was meant, with those behind --.
            before, behind = self._at_dashes()
            ours, theirs = self._split(before)
            line = shlex.join([*self.prog.split(), *ours, "--", *theirs, *behind])
            self.refuse(f"there is no option {name}; the worker's own follow --:\n  {line}")
        guess = "." if meant is None else f"; did you mean {meant}?"
        self.refuse(f"there is no option {name}{guess}{'' if hint is None else f' {hint}'}")

    def _at_dashes(self) -> tuple[list[str], list[str]]:
        """Return the words before and behind --."""
        at = self._given.index("--") if "--" in self._given else len(self._given)
        return self._given[:at], self._given[at + 1 :]

    def _split(self, words: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return our options with their values, and the other words."""
        ours: list[str] = []
        others: list[str] = []
        rest = list(words)
        while rest:
            word = rest.pop(0)
            action = self._option_string_actions.get(word.partition("=")[0])
            if action is None:
                others.append(word)
                continue
            ours.append(word)
            if action.nargs is None and "=" not in word:
                ours += rest[:1]
                del rest[:1]
        return ours, others

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        known = [str(name) for name in action.choices]
        meant: str | None
        if action.metavar == "NOUN" and str(value) in _NOUNS:
            meant = f"{_NOUNS[value]} {value}"
        elif action.metavar == "NOUN" and str(value).endswith(".py"):
            meant = shlex.join(["run", value])
        else:
            meant = nearest(str(value), known)
        hint = f"did you mean {meant}?" if meant else f"there are {', '.join(known)}"
        self.refuse(f"there is no {str(action.metavar).lower()} {value!r}; {hint}")


def warn_of_late_options(
    parser: argparse.ArgumentParser, program: str, arguments: Sequence[str]
) -> None:
    """Warn of a program's arguments that look like options of ours, which come before it.

    Args:
        parser: The command's.
        program: The user's program.
        arguments: What follows it.
    """
    late = []
    words = list(arguments)
    for number, word in enumerate(words):
        action = parser._option_string_actions.get(word.partition("=")[0])
        if action is None or not word.startswith("--"):
            continue
        late.append(word)
        if action.nargs is None and "=" not in word:
            late += words[number + 1 : number + 2]
    if late and not any(_was_given(parser, word) for word in late if word.startswith("--")):
        rest = [word for word in words if word not in late]
        log.warning(
            "%s is passed on to %s; options of ours come before the program: %s",
            " ".join(late), program, shlex.join([*parser.prog.split(), *late, program, *rest]),
        )  # fmt: skip


def _was_given(parser: argparse.ArgumentParser, word: str) -> bool:
    """Whether an option was given before the program, too: then the other one is meant so."""
    given = parser._given if isinstance(parser, Parser) else []
    name = word.partition("=")[0]
    return sum(text.partition("=")[0] == name for text in given) > 1


def add_no_own_pool(parser: argparse.ArgumentParser) -> None:
    """Add the option to a command's parser."""
    parser.add_argument(
        "--no-own-pool",
        action="store_true",
        help="use the system's HTCondor even if a pool runs that 'vine_sharedport pool start' "
        "has started; CONDOR_CONFIG wins over both",
    )


def choose_pool(options: argparse.Namespace, *, elsewhere: bool = False) -> None:
    """Use the user's own pool, or by the option do not, here and in what is started.

    Args:
        options: The command's.
        elsewhere: The user has named another schedd or collector, which knows the system's
            ways to prove who we are, and not those of a pool for one user.
    """
    from vine_sharedport.pool.own_pool import use_own_pool

    if options.no_own_pool or elsewhere:
        os.environ[environment.OWN_POOL] = "no"
    use_own_pool(first=True)


def add_secret_file(parser: argparse.ArgumentParser) -> None:
    """Add the option to a command's parser."""
    parser.add_argument(
        "--secret-file",
        metavar="FILE",
        default=os.environ.get(environment.SECRET_FILE) or None,
        help="file with the manager's secret, as manager.shared_port.secret_file tells it "
        f"(default: ${environment.SECRET_FILE})",
    )


def add_private_network(parser: argparse.ArgumentParser) -> None:
    """Add the option to a command's parser."""
    parser.add_argument(
        "--private-network",
        metavar="NAME",
        default=os.environ.get(environment.PRIVATE_NETWORK) or None,
        help="the network this machine is in, HTCondor's PRIVATE_NETWORK_NAME; where it is the "
        f"address's PrivNet, PrivAddr is tried first (default: ${environment.PRIVATE_NETWORK})",
    )


def add_link_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the options of a link, its name under the one given."""
    parser.add_argument(
        name, dest="name", metavar="NAME", help="the sock id (default: a new one each time)"
    )
    parser.add_argument(
        "--no-gate", dest="gate", action="store_false", help="do not ask workers for a secret"
    )


def no_address(given: str | None, option: str, variable: str) -> str:
    """Say that there is no address, or an empty one, and what to give."""
    if given is None:
        return f"no address: give {option} or set {variable}"
    return f"the address is empty, as by an empty variable or file: give {option}"


def seconds(text: str) -> float:
    """Return a length of time in seconds; argparse tells anything else as a usage error."""
    from vine_sharedport.worker.launch import parse_seconds

    try:
        return parse_seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
