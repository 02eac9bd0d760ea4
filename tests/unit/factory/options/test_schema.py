"""Every option of the stock factory has its place, and values are what they say."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.values import naming
from vine_sharedport.cli import main as cli
from vine_sharedport.errors import OptionError, SettingError
from vine_sharedport.factory.options import schema as module
from vine_sharedport.factory.options.schema import (
    ALIASES,
    CHANGEABLE,
    KINDS,
    REASONS,
    REFUSED,
    Kind,
    Options,
    contradiction,
    field_name,
    remarks,
)

# The long options of vine_factory and work_queue_factory (cctools 7.14 to 7.17), and the
# names that only the Python class Factory or the configuration file know.
STOCK = [
    "amazon-config", "autosize", "batch-options", "batch-type", "capacity", "catalog",
    "condor-requirements", "condor-spool", "config-file", "cores", "debug", "debug-file",
    "debug-file-size", "debug-workers", "disable-afs-check", "disk", "env", "extra-options",
    "factory-name", "factory-period", "factory-timeout", "feature", "foremen-name", "gpus",
    "k8s-image", "k8s-worker-image", "manager-name", "master-name", "max-workers", "memory",
    "mesos-master", "mesos-path", "mesos-preload", "min-workers", "parent-death", "password",
    "poncho-env", "python-env", "python-package", "run-factory-as-manager", "runos",
    "scratch-dir", "single-shot", "ssl", "task-wrapper", "tasks-per-worker", "timeout",
    "tls-sni", "transfer-port", "worker-binary", "workers-per-cycle", "wrapper",
    "wrapper-input", "worker-extra-options", "workers-blocked", "manager-host-port",
    "factory-binary", "log-file",
]  # fmt: skip
OURS = [
    "max_idle", "repair", "cycle", "settle", "preset", "schedd", "pool", "spool", "grid",
    "container_image", "commands", "directory", "address", "secret_file", "system",
]  # fmt: skip
DEFAULTS = {
    "min_workers": 5, "max_workers": 100, "workers_per_cycle": 5, "timeout": 300,
    "factory_timeout": 0, "tasks_per_worker": None, "capacity": False, "autosize": False,
    "cores": None, "memory": None, "disk": None, "gpus": None, "max_idle": None,
    "repair": False, "cycle": 5.0, "settle": 0,
}  # fmt: skip


def documented() -> tuple[dict[str, str], str]:
    """Return what the documentation says of the stock factory, by option, and all of it."""
    text = (Path(__file__).parents[4] / "docs" / "factory.md").read_text()
    text = text.split("## Option by option")[1]
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", text, re.MULTILINE)), text


def made(**values: Any) -> Options:
    return Options.make(values)


@pytest.mark.parametrize("name", STOCK)
def test_every_stock_option_is_known_or_refused_with_a_remedy(name: str) -> None:
    plain = name.replace("-", "_")
    if plain in REFUSED:
        with pytest.raises(OptionError, match=naming(name)):
            field_name(name)
    else:
        assert field_name(name) == field_name(plain) == ALIASES.get(plain, plain)


@pytest.mark.daemon
@pytest.mark.parametrize("system", ["taskvine", "work_queue"])
def test_the_installed_factory_has_no_option_that_we_do_not_know(system: str) -> None:
    import importlib
    import shutil
    import subprocess

    factory = importlib.import_module(f"ndcctools.{system}").Factory
    for name in factory._command_line_options:
        assert name in STOCK
    changeable = {field_name(n) for n in factory._config_file_options if n != "foremen-name"}
    assert changeable - {"manager_name"} <= CHANGEABLE
    program = shutil.which("vine_factory" if system == "taskvine" else "work_queue_factory")
    assert program is not None
    result = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    shown = set(re.findall(r"--([a-z][-a-z0-9]+)", result.stdout))
    assert {"min-workers", "capacity", "ssl"} <= shown
    assert shown - {"help", "version"} <= set(STOCK)
    rows, text = documented()
    for name in {*factory._command_line_options, *shown} - {"help", "version"}:
        plain = name.replace("-", "_")
        stock = rows.get(plain, "")
        told = stock in ("yes", "changeable") or stock.startswith(("from ", "after "))
        assert told or (plain in ALIASES and f"`{plain}`" in text), name
    live = {name for name, stock in rows.items() if stock == "changeable"}
    assert live == {name.replace("-", "_") for name in factory._config_file_options}
    letters = set(re.findall(r"(?<=[ ,])-([A-Za-z])(?=,)", result.stdout))
    assert {"T", "M", "N", "C", "h"} <= letters
    verbs = cli._make_parser()._names.choices["factory"]._names.choices
    ours = verbs["run"]._option_string_actions
    assert set(verbs["start"]._option_string_actions) == set(ours) - {
        "--owner",
        "--end",
        "--lock",
    }
    for letter in letters:
        assert f"-{letter}" in ours or f"Its `-{letter}`" in text


@pytest.mark.daemon
def test_an_option_of_later_releases_is_in_those_alone() -> None:
    import subprocess

    def output(option: str) -> str:
        done = subprocess.run(
            ["vine_factory", option], capture_output=True, text=True, check=False, timeout=30
        )
        return done.stdout + done.stderr

    def numbers(text: str) -> tuple[int, ...]:
        found = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
        assert found is not None, text
        return tuple(map(int, found.groups()))

    installed, shown = numbers(output("--version")), output("--help")
    names = {option: alias for alias, option in ALIASES.items()}
    later = {name: stock for name, stock in documented()[0].items() if "." in stock}
    assert set(later) == {"cycle", "spool", "transfer_port", "task_wrapper"}
    for name, stock in later.items():
        since = numbers(stock)
        has = installed > since if stock.startswith("after ") else installed >= since
        option = names.get(name, name).replace("_", "-")
        assert (f"--{option}" in shown) is has, f"{name} {stock}, {installed}"


def test_our_own_options_are_there_and_each_has_a_text_and_a_kind() -> None:
    assert set(OURS) <= set(KINDS)
    for option in dataclasses.fields(Options):
        assert option.metadata["text"].endswith(".")
        assert isinstance(option.metadata["kind"], Kind)
    assert {name for name, kind in KINDS.items() if kind is Kind.MEANINGLESS} == set(REASONS)
    assert set(module.__all__) >= {"Options", "CHANGEABLE"}


def test_defaults_are_the_stock_factorys() -> None:
    assert {name: getattr(Options(), name) for name in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize(
    ("given_name", "near"),
    [("max_worker", "max_workers"), ("max-worker", "max-workers"), ("memroy", "memory"),
     ("container", "container_image"), ("Cores", "cores")],
)  # fmt: skip
def test_an_unknown_name_is_an_error_with_the_nearest_one(given_name: str, near: str) -> None:
    with pytest.raises(OptionError, match=naming(given_name, near)):
        Options.make({given_name: 1})
    assert issubclass(OptionError, AttributeError)
    assert issubclass(OptionError, SettingError)


def test_a_name_like_no_other_points_to_the_table() -> None:
    with pytest.raises(OptionError, match="docs/factory"):
        Options.make({"zzzzqqqq": 1})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("max_workers", "4", 4),
        ("max_workers", " 4 ", 4),
        ("max_workers", 3.2, 4),  # as vine_factory rounds
        ("max_workers", "3.2", 4),
        ("cores", -1, None),
        ("cores", "0", None),
        ("memory", 0, None),
        ("memory", "-1", None),
        ("memory", 1, 1),
        ("memory", "999.5", 1000),
        ("memory", "2GB", 2048),
        ("memory", "1.5 gib", 1536),
        ("memory", "0.1G", 103),
        ("disk", "800MB", 800),
        ("disk", "1T", 1 << 20),
        ("timeout", "10m", 600),
        ("timeout", 1.5, 2),
        ("factory_timeout", "1d", 86400),
        ("cycle", "1m", 60.0),
        ("gpus", 0, 0),
        ("gpus", -1, None),
        ("tasks_per_worker", -1, None),
        ("max_idle", None, None),
        ("autosize", "yes", True),
        ("autosize", 1, True),
        ("ssl", "0", False),
        ("cycle", "0.5", 0.5),
        ("env", "A=b=c", (("A", "b=c"),)),
        ("env", {"A": " b", "N": 1}, (("A", " b"), ("N", "1"))),
        ("env", ["A=1", "B=", "A=2"], (("A", "2"), ("B", ""))),
        ("commands", {"accounting_group": "g"}, (("accounting_group", "g"),)),
        ("commands", "+P = 1\nrank = a == 2", (("+P", "1"), ("rank", "a == 2"))),
        ("feature", "fast", ("fast",)),
        ("feature", ["a", "b"], ("a", "b")),
        ("wrapper_input", Path("/x/y"), ("/x/y",)),
        ("wrapper", ["inner -x", "outer"], "outer inner -x"),
        ("workers_blocked", "a b  c", ("a", "b", "c")),
        ("condor_requirements", ["Arch == 1", "OpSys"], "(Arch == 1) && (OpSys)"),
        ("condor_requirements", "A && B", "A && B"),
        ("transfer_port", 1000, "1000"),
        ("transfer_port", "1000:2000", "1000:2000"),
        ("debug_file_size", "10M", 10 << 20),
        ("manager_host_port", "[::1]:9123", "[::1]:9123"),
        ("password_file", Path("/p"), "/p"),
        ("directory", "", None),
    ],
)  # fmt: skip
def test_values_become_what_they_mean(name: str, value: Any, expected: Any) -> None:
    found = getattr(made(**{name: value}), name)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_workers", 0), ("max_workers", "4x"), ("max_workers", "9" * 5000),
        ("max_workers", True), ("max_workers", float("nan")), ("max_workers", float("inf")),
        ("max_workers", [4]), ("min_workers", -1), ("factory_timeout", -1), ("timeout", 0),
        ("memory", "0.8"), ("memory", 0.8), ("memory", "2XB"), ("disk", 0.5),
        ("autosize", "maybe"), ("autosize", 2), ("cycle", 0), ("cycle", "nan"),
        ("env", "A"), ("env", 5), ("env", {"A": None}), ("env", {"A=": "b"}),
        ("transfer_port", "0"), ("transfer_port", "2:1"), ("transfer_port", "1:70000"),
        ("manager_host_port", "host"), ("manager_host_port", ":1"),
        ("manager_host_port", "h:0"), ("extra_options", "a\nb"), ("extra_options", b"a"),
        ("worker_binary", "a\0"), ("wrapper", "./caf\udce9"), ("factory_name", "\udce9"),
        ("batch_options", "+A = \udce9"), ("env", {"A": "\udce9"}), ("env", {"A": "\0"}),
        ("commands", {"rank": "\udce9"}), ("feature", ["a", "\udce9"]),
        ("env", {"A B": "1"}), ("env", {"A'B": "1"}), ("env", "1A=1"), ("env", "\u0394=1"),
        ("system", "makeflow"), ("debug_file_size", "1Z"),
        ("batch_type", ["condor"]), ("wrapper_input", {"a": 1}),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_what_is_wanted(name: str, value: Any) -> None:
    with pytest.raises(SettingError, match=naming(name)) as caught:
        made(**{name: value})
    assert not isinstance(caught.value, AttributeError)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("command", "value", "found"),
    [
        ("queue", "50", "'queue = 50'"),
        ("Queue 50", "", "'Queue 50"),
        ("include command", "touch /x", "'include command = touch /x'"),
        ("include : /etc/passwd", "", "'include : /etc/passwd"),
        ("if false", "x", "'if false = x'"),
        ("else", "x", "'else = x'"),
        ("a b", "1", "'a b = 1'.* NAME = VALUE"),
        ("rank @", "end", "'rank @ = end'.* NAME = VALUE"),
        ("# rank", "1", "'# rank = 1'.* NAME = VALUE"),
        ("rank", "1 \\", r"rank = 1 \\"),
        ("requirements", "((", r"requirements .*'\(\(', .*ClassAd"),
        ("+Team", "a b", r"\+Team .*'a b', .*ClassAd"),
        ("My.Team", '"a', "My.Team .*ClassAd"),
    ],
)
def test_what_is_no_submit_command_is_refused(command: str, value: str, found: str) -> None:
    if "ClassAd" in found:
        pytest.importorskip("classad2")
    with pytest.raises(SettingError, match=f"^commands.*{found}"):
        made(commands={command: value})
    # A backslash is written twice there.
    line = f"{command} = {value}".replace("\\", "\\\\")
    with pytest.raises(SettingError, match=f"^batch_options.*{found}"):
        made(batch_options=f"rank = 2\n{line}")


@pytest.mark.parametrize("text", ["((", "a) || (b", "a; b = 1", "Memory > 8GB", '"a', "a // b"])
def test_requirements_that_are_no_expression_are_refused(text: str) -> None:
    pytest.importorskip("classad2")
    for value in (text, ["Memory > 1", text]):
        with pytest.raises(SettingError, match=r"condor_requirements .*ClassAd"):
            made(condor_requirements=value)


@pytest.mark.parametrize(
    "text",
    [
        "A && (B || C =?= undefined)", r'regexp("^n\d+\.x$", Machine)', r'Dir == "C:\0"',
        'Name == "caf\xe9" && x isnt y', "$(Cpus) > 1", "Cpus >= $$([RequestCpus])",
        "x" + " && x" * 250_000,
    ],
)  # fmt: skip
def test_what_condor_submit_takes_for_an_expression_passes(text: str) -> None:
    assert made(condor_requirements=text).condor_requirements == text
    assert made(commands={"requirements": text, "+A": "", "rank": "Memory"})


def test_without_htcondor_expressions_are_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "classad2", None)
    assert made(condor_requirements="((").condor_requirements == "(("


@pytest.mark.parametrize("kind", ["amazon", "k8s", "mesos", "wq"])
def test_batch_types_that_cannot_work_are_refused_with_a_remedy(kind: str) -> None:
    with pytest.raises(SettingError, match=f"{kind}.*refused"):
        made(batch_type=kind)


def test_tls_sni_implies_tls() -> None:
    assert made(tls_sni="a.example").ssl is True


def test_the_default_minimum_gives_way_to_any_maximum() -> None:
    """As in vine_factory's file; its command line refuses max_workers = 2 alone."""
    options = made(max_workers=2)
    assert options.least_workers == 2
    assert contradiction(options) is None
    assert contradiction(options, is_given=True) is not None
    assert contradiction(made(min_workers=9, max_workers=9)) is None
    explanation, remedy = contradiction(made(min_workers=9, max_workers=2)) or ("", "")
    assert explanation == "min_workers is 9, but max_workers is 2"
    assert "give min_workers=2" in remedy
    assert made(min_workers=9, max_workers=2).least_workers == 2, "the maximum holds"


def test_an_option_without_effect_says_so() -> None:
    (said,) = remarks(made(catalog="catalog.cse.nd.edu"))
    assert "catalog" in said


def test_while_running_only_some_options_change() -> None:
    before = made(max_workers=3, schedd="s")
    after = Options.make({"max_workers": 7, "schedd": "s"}, base=before, running=True)
    assert (after.max_workers, after.schedd) == (7, "s")
    with pytest.raises(OptionError, match=naming("schedd", "'s'", "'t'")):
        Options.make({"schedd": "t"}, base=before, running=True)
    for name in ("cores", "max_idle", "timeout", "condor_requirements", "cycle", "repair"):
        assert name in CHANGEABLE


def test_nothing_given_again_is_the_default() -> None:
    base = made(max_workers=3, cores=4)
    after = Options.make({"max_workers": None, "cores": None}, base=base)
    assert (after.max_workers, after.cores) == (100, None)


def test_options_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Options().max_workers = 3  # type: ignore[misc]


def test_batch_options_are_lines_with_codes_as_for_vine_factory() -> None:
    options = made(batch_options='+A = 1\\n+B = "x\\\\y"\nrank = 2')
    assert options.batch_lines() == ["+A = 1", '+B = "x\\y"', "rank = 2"]
    assert made().batch_lines() == []


def test_the_documentation_has_each_option_once_with_what_becomes_of_it() -> None:
    text = (Path(__file__).parents[4] / "docs" / "factory.md").read_text()
    table = text.split("## Option by option")[1]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|", table, re.MULTILINE)
    words = {
        Kind.SUPPORTED: "yes",
        Kind.CHANGEABLE: "changeable",
        Kind.MEANINGLESS: "without effect",
        Kind.REFUSED: "refused",
    }
    assert [(name, ours) for name, _, ours in rows] == [
        (name, words[kind]) for name, kind in KINDS.items()
    ]
    for name in ALIASES:
        assert name in ("master_name",) or f"`{name}`" in table
