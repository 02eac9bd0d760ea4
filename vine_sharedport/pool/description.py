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
from collections.abc import Mapping, Sequence

from vine_sharedport.errors import LaunchError

__all__ = [
    "Macro",
    "format_description",
    "quote_arguments",
    "quote_environment",
    "quote_path",
    "read_items",
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


class Macro(str):
    """An argument that HTCondor is to fill in, such as ``$$(Cpus)``: its ``$`` stay."""


def format_description(commands: Mapping[str, str | int]) -> str:
    """Return a submit description, one command a line.

    Raises:
        LaunchError: A value has a line break, which would start another command, or is no
            UTF-8.
    """
    lines = []
    for name, value in commands.items():
        _check_text(name, str(value))
        lines.append(f"{name} = {value}\n")
    return "".join(lines)


def quote_arguments(arguments: Sequence[str]) -> str:
    """Return the value of ``arguments`` in HTCondor's new syntax.

    Every argument reaches the program byte for byte, but for a ``Macro``.

    Raises:
        LaunchError: An argument has a line break, or is no UTF-8.
    """
    return '"' + " ".join(_quote_item(argument) for argument in arguments) + '"'


def quote_environment(environment: Mapping[str, str]) -> str:
    """Return the value of ``environment`` in HTCondor's new syntax.

    What stands there is public: everybody in the pool can read it.

    Raises:
        LaunchError: As for ``quote_arguments``.
    """
    items = (f"{name}={_quote_item(value)}" for name, value in environment.items())
    return '"' + " ".join(items) + '"'


def quote_path(path: str, *, in_list: bool = False) -> str:
    """Return a path as the value of a submit command.

    Args:
        path: The path.
        in_list: It stands in a list, such as ``transfer_input_files``.

    Raises:
        LaunchError: HTCondor cannot be told such a path.
    """
    if in_list and "," in path:
        raise LaunchError(
            f"HTCondor takes the comma in {path!r} for the end of a path; move the file, or "
            "run the program elsewhere (or give directory=)"
        )
    if _NESTED.search(path):
        raise LaunchError(
            f"HTCondor replaces a part of the path {path!r}, however it is written: what "
            "begins with '$' and has a parenthesis; rename that file or directory"
        )
    return _MACRO.sub(lambda found: f"$(DOLLAR){found[0][1:]}", path)


def read_items(quoted: str) -> list[str]:
    """Return the items of ``arguments`` or ``environment`` in HTCondor's new syntax.

    Those in which something is to be replaced are a ``Macro``.

    Raises:
        LaunchError: It is in another syntax.
    """
    if not quoted:
        return []
    if not (len(quoted) > 1 and quoted[0] == quoted[-1] == '"'):
        raise LaunchError(
            f"arguments or environment is {quoted[:80]!r}, in HTCondor's old syntax; put "
            'double quotes around the whole, as in environment = "NAME=VALUE"'
        )
    # Blanks separate, single quotes keep blanks together, two of them stand for one.
    items = re.findall(r"(?:[^\s']|'(?:[^']|'')*')+", quoted[1:-1].replace('""', '"'))
    return [_read_item(item) for item in items]


def _read_item(item: str) -> str:
    # Each part by itself: what stands beside it after this may look like a macro.
    parts = re.findall(r"[^']+|'(?:[^']|'')*'", item)
    found = "".join(
        (part[1:-1].replace("''", "'") if part.startswith("'") else part)
        .replace("$(DOLLAR)", "$")
        .replace(_DOLLARS, "$$")
        for part in parts
    )
    is_macro = _MACRO.search(item.replace("$(DOLLAR)", " ").replace(_DOLLARS, " "))
    return Macro(found) if is_macro else found


def _quote_item(text: str) -> str:
    """Quote one item: checked byte for byte with condor_submit and the bindings.

    Single quotes around it, ``'`` doubled; ``"`` doubled for the quotes around the whole. A
    ``$`` that begins a macro stands outside of the single quotes, which are no part of a
    macro's name: ``'$'(X)'``.
    """
    _check_text("an argument or variable", text)
    escaped = text.replace("'", "''").replace('"', '""')
    if not isinstance(text, Macro):
        escaped = _BEFORE_NAME.sub("'$'", escaped)
        escaped = _BEFORE_PARENTHESIS.sub(_spell_dollars, escaped)
    return f"'{escaped}'"


def _spell_dollars(found: re.Match[str]) -> str:
    pairs, odd = divmod(len(found[0]), 2)
    return _DOLLARS * pairs + "'$'" * odd


def _check_text(what: str, text: str) -> None:
    if "\n" in text or "\r" in text or "\0" in text:
        raise LaunchError(
            f"{what} of the submit description has a line break or a zero byte, which it "
            f"cannot have: {text!r}; put it into a file"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise LaunchError(
            f"{what} of the submit description is no UTF-8, which HTCondor's bindings want: "
            f"{text!r}; put it into a file, or rename the file"
        ) from error
