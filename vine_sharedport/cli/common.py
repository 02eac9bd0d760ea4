"""What the nouns of the command share: the parser, types of values and options."""

from __future__ import annotations

import argparse
import difflib
import logging
import math
import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Callable, NoReturn

from vine_sharedport import environment, keepalive
from vine_sharedport.errors import ExitStatus, SettingError
from vine_sharedport.units import SIZE, TIME, parse_megabytes, parse_seconds

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction["Parser"]
else:
    Subparsers = None


__all__ = [
    "Parser",
    "Subparsers",
    "add_command",
    "add_json",
    "add_link_options",
    "add_no_own_pool",
    "add_private_network",
    "add_program",
    "add_secret_file",
    "choose_pool",
    "duration",
    "nearest",
    "no_address",
    "print_error",
    "size",
    "warn_of_late_options",
]

log = logging.getLogger(__name__)

# Verbs that people write without their noun, and whose they most likely are.
_NOUNS = {
    "start": "pool",
    "stop": "pool",
    "env": "pool",
    "submit": "manager",
    "log": "manager",
    "status": "factory",
    "list": "factory",
}

# What a metavar stands for, told below the options of each parser that has it.
_METAVARS = {"TIME": TIME, "SIZE": SIZE}
_STATUSES = (ExitStatus.OK, ExitStatus.FAILED, ExitStatus.USAGE)


def print_error(what: object) -> None:
    """Print an error, or what is like one, on stderr."""
    print(f"vine_sharedport: {what}", file=sys.stderr)


def duration(text: str) -> float:
    """Return a length of time in seconds, as argparse's type."""
    return _typed(parse_seconds, text)


def size(text: str) -> int:
    """Return a size in whole megabytes, as argparse's type."""
    number = _typed(parse_megabytes, text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is less than a megabyte; write {SIZE}")
    return math.ceil(number)


def _keepalive(text: str) -> str:
    """Return what is ``SharedPort``'s ``keepalive``, as argparse's type."""
    try:
        keepalive.parse_keepalive(text, "")
    except SettingError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _typed(parse: Callable[[str], float], text: str) -> float:
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the name that was probably meant; None if none is like it.

    Dashes do not count: with them, any two short options are alike.
    """
    names = {name.lstrip("-").lower(): name for name in known}
    found = difflib.get_close_matches(word.lstrip("-").lower(), names, n=1)
    return names[found[0]] if found else None


class Parser(argparse.ArgumentParser):
    """argparse's, whose errors say what was meant and do not repeat the usage.

    The help ends with an example, what TIME and SIZE stand for, and the exit statuses. Some
    defaults (``set_defaults``) are for it: ``hint`` is what to add where an option is
    unknown, ``verb`` which verb an unknown one may be a name for, ``words`` what completes the
    words, ``rest`` where to keep what follows ``--`` if that is another program's.

    Args:
        run: What the command does; None where a noun or verb is to follow.
        example: A command line, if it has more than the noun and verb.
        statuses: Exit statuses besides those that every command has.
    """

    def __init__(
        self,
        *args: Any,
        run: Callable[[argparse.Namespace], int] | None = None,
        example: str = "",
        statuses: Sequence[ExitStatus] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        # Python 3.14 can guess too, for some errors and in its own words; 3.15 does by itself.
        self.suggest_on_error = False
        self.given: list[str] = []
        self._example = example
        self._statuses = statuses
        self.set_defaults(run=run or self._refuse_nothing, parser=self)

    def add_names(self, what: str) -> Subparsers:
        """Return what the nouns or verbs are added to."""
        self._names = self.add_subparsers(title=f"{what.lower()}s", metavar=what)
        return self._names

    def format_help(self) -> str:
        """Return the help, and what all of them tell alike."""
        text = super().format_help()
        if self.prog != "vine_sharedport":
            text += f"\nexample:\n  {self._example or self.prog}\n"
        for name in sorted({str(a.metavar) for a in self._actions} & set(_METAVARS)):
            text += f"\n{name} is {_METAVARS[name]}.\n"
        lines = [f"  {s:<5d}{s.meaning}\n" for s in sorted({*_STATUSES, *self._statuses})]
        return f"{text}\nexit status:\n{''.join(lines)}"

    def _refuse_nothing(self, _: argparse.Namespace) -> NoReturn:
        self.error(
            f"give a {str(self._names.metavar).lower()}: {', '.join(self._names.choices)}"
        )

    def parse_known_args(  # type: ignore[override]  # its overloads are for namespaces of others
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse; what is unknown is told by the parser that it was given to."""
        complete = self.get_default("words") or list
        self.given = args = complete(sys.argv[1:] if args is None else args)
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
        self.refuse(f"{message}\nSee: {self.prog} --help")

    def refuse(self, message: str) -> NoReturn:
        """Print a message that tells the next step itself; exit with status 2."""
        self.exit(ExitStatus.USAGE, f"{self.prog}: {message}\n")

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
        at = self.given.index("--") if "--" in self.given else len(self.given)
        return self.given[:at], self.given[at + 1 :]

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
        is_noun = action.metavar == "NOUN"
        meant = nearest(str(value), known)
        if is_noun and value in _NOUNS:
            meant = f"{_NOUNS[value]} {value}"
        elif is_noun and str(value).endswith(".py"):
            meant = shlex.join(["run", value])
        hint = f"did you mean {meant}?" if meant else f"there are {', '.join(known)}"
        verb = self.get_default("verb")
        if not meant and verb is not None:
            words = self.given[value == "condor" :]  # as vine.Factory("condor") has it
            hint = f"for a name: {shlex.join([*self.prog.split(), verb, *words])}"
        what = "there is no noun" if is_noun else "there is no verb"
        self.refuse(f"{what} {value!r}; {hint}")


def add_command(
    names: Subparsers,
    name: str,
    run: Callable[[argparse.Namespace], int] | None,
    description: str,
    **kwargs: Any,
) -> Parser:
    """Return the parser of a noun or verb, whose description begins with its help."""
    first = description.partition(". ")[0].rstrip(".")
    text = f"{first[0].lower()}{first[1:]}"
    return names.add_parser(name, run=run, help=text, description=description, **kwargs)


def warn_of_late_options(parser: Parser, program: str, arguments: Sequence[str]) -> None:
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


def _was_given(parser: Parser, word: str) -> bool:
    """Whether an option was given before the program, too: then the other one is meant so."""
    name = word.partition("=")[0]
    return sum(text.partition("=")[0] == name for text in parser.given) > 1


def add_no_own_pool(parser: Parser) -> None:
    """Add the option to a command's parser."""
    parser.add_argument(
        "--no-own-pool", action="store_true",
        help="use the system's HTCondor even if a pool runs that 'vine_sharedport pool start' "
        "has started; CONDOR_CONFIG wins over both",
    )  # fmt: skip


def choose_pool(options: argparse.Namespace, *, elsewhere: bool = False) -> None:
    """Use the user's own pool, or by the option do not, here and in what is started.

    Args:
        options: The command's.
        elsewhere: The user has named another schedd or collector, which knows the system's
            ways to prove who we are, and not those of a pool for one user.
    """
    from vine_sharedport.condor.own_pool import use_own_pool

    if options.no_own_pool or elsewhere:
        os.environ[environment.OWN_POOL] = "no"
    use_own_pool(first=True)


def add_json(parser: argparse._ActionsContainer) -> None:
    """Add the option to a command's parser."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_secret_file(parser: Parser) -> None:
    """Add the option to a command's parser."""
    parser.add_argument(
        "--secret-file", metavar="FILE",
        default=os.environ.get(environment.SECRET_FILE) or None,
        help="file with the manager's secret, as manager.shared_port.secret_file has it "
        f"(default: ${environment.SECRET_FILE})",
    )  # fmt: skip


def add_private_network(parser: Parser) -> None:
    """Add the option to a command's parser."""
    parser.add_argument(
        "--private-network", metavar="NAME",
        default=os.environ.get(environment.PRIVATE_NETWORK) or None,
        help="the network this machine is in, HTCondor's PRIVATE_NETWORK_NAME; where it is the "
        f"address's PrivNet, PrivAddr is tried first (default: ${environment.PRIVATE_NETWORK})",
    )  # fmt: skip


def add_link_options(parser: Parser) -> None:
    """Add the options of a manager's shared port."""
    parser.add_argument(
        "--shared-port-name", metavar="NAME", help="the sock id (default: a new one each time)"
    )
    parser.add_argument(
        "--no-gate", dest="gate", action="store_false", help="do not ask workers for a secret"
    )
    parser.add_argument(
        "--keepalive", metavar="IDLE/INTERVAL/COUNT", type=_keepalive,
        help="how silent connections are probed, in seconds and probes, or 'off' (default: "
        f"{keepalive.DEFAULT}, or ${environment.KEEPALIVE})",
    )  # fmt: skip


def add_program(parser: Parser) -> None:
    """Add a Python program and its arguments, the last ones of a command."""
    parser.add_argument("-m", dest="module", action="store_true", help="PROGRAM is a module")
    parser.add_argument("program", metavar="PROGRAM", help="the program's file")
    parser.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="...", help="the program's arguments"
    )


def no_address(given: str | None, option: str, variable: str) -> str:
    """Say that there is no address, or an empty one, and what to give."""
    if given is None:
        return f"no address: give {option} or set {variable}"
    return f"the address is empty, as by an empty variable or file: give {option}"
