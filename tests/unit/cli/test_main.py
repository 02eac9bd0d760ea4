"""The command as a whole: unknown words get the nearest name, and each help is complete."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pytest

import vine_sharedport.factory.api  # noqa: F401  # what ctypes opens stays open, and is no test's
from vine_sharedport.cli import common
from vine_sharedport.cli import main as cli
from vine_sharedport.cli.common import Parser
from vine_sharedport.errors import ExitStatus


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("pol start", "vine_sharedport: there is no noun 'pol'; did you mean pool?"),
        ("start", "vine_sharedport: there is no noun 'start'; did you mean pool start?"),
        ("stop", "there is no noun 'stop'; did you mean pool stop?"),
        ("submit a.py", "there is no noun 'submit'; did you mean manager submit?"),
        ("status --json", "there is no noun 'status'; did you mean factory status?"),
        ("run.py 9", "there is no noun 'run.py'; did you mean run run.py?"),
        ("my/plain.py", "there is no noun 'my/plain.py'; did you mean run my/plain.py?"),
        ("pool plain.py", "there is no verb 'plain.py'; "),
        ("pool strat", "vine_sharedport pool: there is no verb 'strat'; did you mean start?"),
        ("manager sumbit a.py", "there is no verb 'sumbit'; did you mean submit?"),
        ("factory stauts", "there is no verb 'stauts'; did you mean status?"),
        ("--vrebose pool start", "no option --vrebose; did you mean --verbose?"),
        ("pool start --memroy 5", "no option --memroy; did you mean --memory?"),
        ("pool status --jsno", "--json?"),
        ("pool stop --dir=x --directroy=y", "--directroy; did you mean --directory?"),
        ("manager submit --nmae x a.py", "no option --nmae; did you mean --name?"),
        ("manager status --jsno", "--json?"),
        ("manager log x --folow", "no option --folow; did you mean --follow?"),
        ("manager stop x --timeuot 1", "--timeout"),
        ("run --shared-port-nmae x a.py", "--shared-port-name?"),
        ("connect --explian '<a>'", "--explain?"),
        ("expose --prot 9", "--port?"),
        ("expose -port 9", "--port?"),
        ("factory --core 2", "--cores?"),
        ("factory -M x --max-wokers=3", "--max-workers?"),
        ("factory status --wach", "--watch?"),
        (
            "factory sweep --cores 2",
            ": vine_sharedport factory run sweep --cores 2",
        ),
        (
            "factory condor -M sweep",
            ": vine_sharedport factory run -M sweep",
        ),
        ("factory run", "--address"),
        ("factory start a b c", ": c"),
        ("factory run sweep -M swamp", "sweep"),
        ("factory start sweep --parent-death", "'factory run'"),
        ("factory list --jsno", "--json?"),
        ("factory stop --timeuot 3", "--timeout"),
        ("worker --secretfile x", "--secret-file"),
        (
            "worker --cores 4",
            "\n  vine_sharedport worker -- --cores 4",
        ),
        ("pool start --verbose", ": vine_sharedport --verbose pool start"),
        ("", ": doctor, worker, connect, run, "),
        ("pool", ": start, status, stop"),
        ("pool frobnicate", "start, status, stop"),
        ("pool start now", ": now"),
        ("pool start --memory 2XB", "'2XB'"),
        ("manager submit --memory 0 a.py", "'0'"),
        ("pool start --cpus 2GB", "'2GB'"),
        ("manager submit --grace 1w a.py", "'1w'"),
        ("factory stop --timeout nan", "'nan'"),
        ("connect --timeout soon", "'soon'"),
        ("expose --port 9 --keepalive 5", "'5'"),
        ("run --keepalive 8/8/0 a.py", "'8/8/0'"),
        ("run --keepalive never a.py", "'never'"),
        ("run", "the following arguments are required: PROGRAM"),
    ],
)
def test_what_is_unknown_is_answered_by_the_nearest_name(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments.split())
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert len(err.splitlines()) <= 2
    assert "usage:" not in err
    assert err.count("did you mean") <= 1, "Python 3.14 can say it too"


def test_a_verb_without_its_noun_is_answered_by_a_command_that_there_is() -> None:
    for verb, noun in common._NOUNS.items():
        with pytest.raises(SystemExit) as end:
            cli.main([noun, verb, "--help"])
        assert end.value.code == 0, f"{noun} {verb}"


def test_a_programs_own_options_are_not_judged(capsys: pytest.CaptureFixture[str]) -> None:
    options = cli._make_parser().parse_args(["run", "a.py", "--shared-port-nmae", "x"])
    assert options.arguments == ["--shared-port-nmae", "x"]


def test_each_parser_of_the_command_is_of_this_kind() -> None:
    parsers = [cli._make_parser()]
    for parser in parsers:
        assert isinstance(parser, Parser), parser.prog
        for action in parser._actions:
            if isinstance(action.choices, dict):
                parsers += action.choices.values()
    assert len(parsers) > 12


def commands(parser: Parser) -> Iterator[Parser]:
    """Yield a parser and those of its nouns and verbs."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action.choices.values():
                yield from commands(choice)


COMMANDS = {parser.prog: parser for parser in commands(cli._make_parser())}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_help_tells_what_how_and_the_exit_statuses(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        cli.main([*command.split()[1:], "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    parser = COMMANDS[command]
    assert parser.description
    for action in parser._actions:
        if action.help != argparse.SUPPRESS:
            assert all(option in text for option in action.option_strings)
    for status in (ExitStatus.OK, ExitStatus.FAILED, ExitStatus.USAGE):
        assert f"\n  {status:<5d}{status.meaning}\n" in text
    if command != "vine_sharedport":
        assert command in parser._example or not parser._example
        assert f"\nexample:\n  {parser._example or command}\n" in text


def test_options_that_mean_the_same_are_called_the_same() -> None:
    metavars: dict[str, set[object]] = {}
    for parser in COMMANDS.values():
        for action in parser._actions:
            for option in action.option_strings:
                metavars.setdefault(option, set()).add(action.metavar)
    assert metavars["--memory"] == {"SIZE"}
    for option in ("--timeout", "--connect-timeout", "--grace", "--interval", "--cycle"):
        assert metavars[option] == {"TIME"}, option
    verbs = {command.split()[-1] for command in COMMANDS}
    assert not verbs & {"end", "remove", "kill", "rm", "show", "ls"}
    for noun in ("pool", "manager", "factory"):
        assert {f"vine_sharedport {noun} {verb}" for verb in ("status", "stop")} <= {*COMMANDS}
    for verb in ("start", "run", "status", "stop"):
        first = COMMANDS[f"vine_sharedport factory {verb}"]._get_positional_actions()[0]
        assert str(first.metavar).startswith("NAME")
