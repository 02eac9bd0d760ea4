"""HTCondor submit descriptions: text, quoted so that every value survives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vine_sharedport.errors import LaunchError

__all__ = ["format_description", "quote_arguments", "quote_environment", "quote_path"]


def format_description(commands: Mapping[str, str | int]) -> str:
    """Return a submit description, one command a line.

    Raises:
        LaunchError: A value has a line break, which would start another command.
    """
    lines = []
    for name, value in commands.items():
        _check_line(name, str(value))
        lines.append(f"{name} = {value}\n")
    return "".join(lines)


def quote_arguments(arguments: Sequence[str]) -> str:
    """Return the value of ``arguments`` in HTCondor's new syntax."""
    return '"' + " ".join(_quote_item(argument) for argument in arguments) + '"'


def quote_environment(environment: Mapping[str, str]) -> str:
    """Return the value of ``environment`` in HTCondor's new syntax.

    What stands there is public: everybody in the pool can read it.
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
    return path.replace("$", "$(DOLLAR)")


def _quote_item(text: str) -> str:
    """Quote one item: checked byte for byte with condor_submit and the bindings.

    Single quotes around it, ``'`` doubled; ``"`` doubled for the quotes around the
    whole; ``$`` spelled out, or it would start a macro.
    """
    _check_line("an argument or variable", text)
    escaped = text.replace("'", "''").replace('"', '""').replace("$", "$(DOLLAR)")
    return f"'{escaped}'"


def _check_line(what: str, text: str) -> None:
    if "\n" in text or "\r" in text or "\0" in text:
        raise LaunchError(f"{what} of the submit description has a line break: {text!r}")
