"""HTCondor submit descriptions: text, quoted so that every value survives.

HTCondor reads a value three times, and each reader has characters of its own:

1. ``condor_submit`` replaces ``$(NAME)`` and ``$NAME(...)``. What it finds is a ``$``,
   then perhaps a word, then ``(``. Source: ``next_config_macro`` in
   src/condor_utils/config.cpp.
2. It divides arguments and variables at blanks that are not between single quotes.
   Source: ``split_args`` in src/condor_utils/condor_arglist.cpp.
3. The schedd replaces ``$$(NAME)`` and ``$$([expression])`` in the whole ad when the job
   starts, and holds it where it cannot. Source: ``dollarDollarExpand`` in
   src/condor_schedd.V6/qmgmt.cpp.

``$(DOLLAR)`` is no way out: two of them in a row, or one inside of what it makes look
like a macro, stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vine_sharedport.errors import SettingError

__all__ = [
    "Commands",
    "SubmitDescription",
    "Verbatim",
    "parse_environment",
    "quote_arguments",
    "quote_environment",
    "quote_path",
]

# What the schedd replaces by "$$", and does not look at again.
_DOLLARS = "$$(DOLLARDOLLAR)"

# Dollars before a parenthesis: of any number, two of them count for the schedd.
_BEFORE_PARENTHESIS = re.compile(r"\$+(?=\()")
# A dollar that begins a macro with a name. HTCondor asks isalnum() of each byte.
_BEFORE_NAME = re.compile(r"\$(?=(?:\w|[^\x00-\x7f])+\()")
# What quoting leaves of these in the text of a submit description is a macro.
_MACRO = re.compile(r"\$\w*\(")
# Where no spelling of the dollars helps outside of arguments and variables: macros in
# macros, and two dollars.
_NESTED = re.compile(r"\$\$+\w*\(|\$\w*\([^)]*\$\w*\(")


class Verbatim(str):
    """Text as it stands in a submit description, such as ``$$(Cpus)``: HTCondor reads it."""


class Commands(MutableMapping[str, str]):
    """Submit commands by name, whatever letters and whichever ``+`` or ``My.`` it has.

    Written out with the spelling of each name's first use: an attribute's spelling gets
    into the file with the job's ad, which the launcher reads.
    """

    def __init__(self, commands: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()) -> None:
        self._items: dict[str, tuple[str, str]] = {}
        self.update(commands)

    @staticmethod
    def _plain(name: str) -> str:
        """Return a submit command's name as HTCondor compares it."""
        return re.sub(r"^\+\s*", "my.", name.lower())

    def __getitem__(self, name: str) -> str:
        return self._items[self._plain(name)][1]

    def __setitem__(self, name: str, value: object) -> None:
        plain = self._plain(name)
        self._items[plain] = (self._items.get(plain, (name,))[0], str(value))

    def __delitem__(self, name: str) -> None:
        del self._items[self._plain(name)]

    def __iter__(self) -> Iterator[str]:
        return iter([spelled for spelled, _ in self._items.values()])

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"Commands({dict(self)})"


@dataclass(frozen=True)
class SubmitDescription:
    """What a job is submitted with; text only where ``format`` is called.

    Attributes:
        arguments: The program's. They reach it byte for byte, but for a ``Verbatim``.
        environment: Its variables, likewise. What stands there is public: everybody in the
            pool can read it.
        inputs: Paths and URLs of the files that travel with it.
        commands: All other submit commands, as they stand there.

    Raises:
        SettingError: HTCondor cannot be told one of them.
    """

    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    commands: Commands = field(default_factory=Commands)

    def __post_init__(self) -> None:
        for argument in self.arguments:
            _check_text("an argument", argument)
        for path in self.inputs:
            quote_path(path, in_list=True)
        for what, text in (*self.environment.items(), *self.commands.items()):
            _check_text(what, text)

    def with_commands(self, commands: Mapping[str, str | int]) -> SubmitDescription:
        """Return it with more commands, in the place of those of the same name.

        Variables and files are added to those that are there, whose names win.
        """
        found, environment, inputs = Commands(self.commands), self.environment, self.inputs
        for name, value in Commands(commands).items():
            if name.lower() in ("environment", "env"):
                environment = {**parse_environment(value), **environment}
            elif name.lower() == "transfer_input_files":
                paths = (Verbatim(path.strip()) for path in value.split(","))
                inputs += tuple(filter(None, paths))
            else:
                found[name] = value
        return replace(self, environment=environment, inputs=inputs, commands=found)

    def with_defaults(self, commands: Mapping[str, str | int]) -> SubmitDescription:
        """Return it with those commands that it does not have yet."""
        return self.with_commands(
            {name: value for name, value in commands.items() if name not in self.commands}
        )

    def without(self, *names: str) -> SubmitDescription:
        """Return it without these commands."""
        commands = Commands(self.commands)
        for name in names:
            commands.pop(name, None)
        return replace(self, commands=commands)

    def format(self) -> str:
        """Return the text, one command a line, without ``queue``."""
        found = dict(self.commands)
        if self.arguments:
            found["arguments"] = quote_arguments(self.arguments)
        if self.environment:
            found["environment"] = quote_environment(self.environment)
        if self.inputs:
            paths = (quote_path(path, in_list=True) for path in self.inputs)
            found["transfer_input_files"] = ", ".join(paths)
        return "".join(f"{name} = {value}\n" for name, value in found.items())


def quote_arguments(arguments: Sequence[str]) -> str:
    """Return the value of ``arguments`` in HTCondor's new syntax."""
    return _quote_items(map(_quote_item, arguments))


def quote_environment(environment: Mapping[str, str]) -> str:
    """Return the value of ``environment`` in HTCondor's new syntax."""
    return _quote_items(f"{name}={_quote_item(text)}" for name, text in environment.items())


def quote_path(path: str, *, in_list: bool = False) -> str:
    """Return a path as the value of a submit command.

    Args:
        path: The path.
        in_list: It stands in a list, such as ``transfer_input_files``.

    Raises:
        SettingError: HTCondor cannot be told such a path.
    """
    _check_text("a path", path)
    if isinstance(path, Verbatim):
        return path
    if in_list and "," in path:
        raise SettingError(
            f"HTCondor takes the comma in {path!r} for the end of a path; move the file, or "
            "run the program in another directory (or give directory=)"
        )
    if _NESTED.search(path):
        raise SettingError(
            f"HTCondor replaces a part of the path {path!r}, however it is written: what "
            "begins with '$' and has a parenthesis; rename that file or directory"
        )
    return _MACRO.sub(lambda found: f"$(DOLLAR){found[0][1:]}", path)


def parse_environment(quoted: str) -> dict[str, str]:
    """Return the variables of an ``environment`` that a user wrote, in HTCondor's new syntax.

    Those in which HTCondor is to replace something are a ``Verbatim``.

    Raises:
        SettingError: It is in another syntax.
    """
    inside = re.fullmatch(r'\s*"((?:[^"]|"")*)"\s*', quoted)
    if inside is None or quoted.count("'") % 2:
        raise SettingError(
            f"the environment is {quoted[:80]!r}; write it in HTCondor's new syntax, in double "
            "quotes with blanks between, as in \"A=1 B='two words'\""
        )
    # Blanks separate, single quotes keep blanks together, two of them stand for one.
    items = re.findall(r"(?:[^\s']|'(?:[^']|'')*')+", inside[1].replace('""', '"'))
    return dict(_parse_variable(item) for item in items)


def _parse_variable(item: str) -> tuple[str, str]:
    name, equals, text = item.partition("=")
    if name.count("'") % 2:  # the quotes are around both
        name, text = name.replace("'", ""), f"'{text}"
    if not equals or not name:
        raise SettingError(f"the environment has {item!r}, which is not NAME=VALUE")
    if _MACRO.search(text.replace("$(DOLLAR)", " ").replace(_DOLLARS, " ")):
        return name, Verbatim(text)
    # Each part by itself: what stands beside it after this may look like a macro.
    parts = re.findall(r"[^']+|'(?:[^']|'')*'", text)
    return name, "".join(
        (part[1:-1].replace("''", "'") if part.startswith("'") else part)
        .replace("$(DOLLAR)", "$")
        .replace(_DOLLARS, "$$")
        for part in parts
    )


def _quote_items(items: Iterable[str]) -> str:
    return '"' + " ".join(items).replace('"', '""') + '"'


def _quote_item(text: str) -> str:
    """Quote one item: checked byte for byte with condor_submit and the bindings.

    Single quotes around it, ``'`` doubled. A ``$`` that begins a macro stands outside of the
    single quotes, which are no part of a macro's name: ``'$'(X)'``.
    """
    if isinstance(text, Verbatim):
        return text
    escaped = _BEFORE_NAME.sub("'$'", text.replace("'", "''"))
    return f"'{_BEFORE_PARENTHESIS.sub(_spell_dollars, escaped)}'"


def _spell_dollars(found: re.Match[str]) -> str:
    pairs, odd = divmod(len(found[0]), 2)
    return _DOLLARS * pairs + "'$'" * odd


def _check_text(what: str, text: str) -> None:
    if "\n" in text or "\r" in text or "\0" in text:
        raise SettingError(
            f"{what} of the submit description has a line break or a zero byte, which it "
            f"cannot have: {text!r}; put it into a file"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SettingError(
            f"{what} of the submit description is no UTF-8, which HTCondor's bindings want: "
            f"{text!r}; put it into a file, or rename the file"
        ) from error
