"""Values of options: what people write for them, and what is refused with what is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest

from tests.values import naming
from vine_sharedport.condor.worker_job import converters
from vine_sharedport.errors import SettingError

Convert = Callable[[str, Any], Any]


@pytest.mark.parametrize(
    ("convert", "value", "expected"),
    [
        (converters.to_integer(1, "n"), "1.2", 2),
        (converters.to_integer(0, "n", none_below=0), -1, None),
        (converters.to_megabytes, "1.5 GB", 1536),
        (converters.to_megabytes, 0, None),
        (converters.to_seconds, "2m", 120.0),
        (converters.to_whole_seconds(1), 1.5, 2),
        (converters.to_flag, " Yes ", True),
        (converters.to_flag, "", False),
        (converters.to_text, Path("/a"), "/a"),
        (converters.to_text, "", None),
        (converters.to_lines, "a\nb", "a\nb"),
        (converters.to_command_line, ["a b", "c"], "'a b' c"),
        (converters.to_command_line, [], None),
        (converters.to_texts, ["a", "", Path("b")], ("a", "b")),
        (converters.to_words, ["a b", "c"], ("a", "b", "c")),
        (converters.to_pairs, "A=1\nB=x=y", (("A", "1"), ("B", "x=y"))),
        (converters.to_pairs, {"A": 1, "B": True}, (("A", "1"), ("B", "True"))),
        (converters.to_pairs, ["A=1", ("A", "2")], (("A", "2"),)),
        (converters.to_commands, {"rank": " Memory "}, (("rank", "Memory"),)),
        (converters.to_requirements, ["A", "B || C"], "(A) && (B || C)"),
        (converters.to_requirements, "A", "A"),
        (converters.to_wrapper, ["nice", "time"], "time nice"),
        (converters.to_port_range, 9000, "9000"),
        (converters.to_port_range, "9000:9010", "9000:9010"),
        (converters.to_host_port, "cm:9618", "cm:9618"),
        (converters.to_size, "10M", 10 << 20),
        (converters.to_size, 17, 17),
        (converters.to_choice("a", "b"), "a", "a"),
    ],
)
def test_what_people_write_becomes_what_they_mean(
    convert: Convert, value: Any, expected: Any
) -> None:
    assert convert("option", value) == expected


@pytest.mark.parametrize(
    ("convert", "value"),
    [
        (converters.to_integer(1, "n"), 0),
        (converters.to_integer(1, "n"), True),
        (converters.to_integer(1, "n"), "1e3"),
        (converters.to_integer(1, "n"), float("inf")),
        (converters.to_integer(1, "n"), 1 << 53),
        (converters.to_megabytes, 0.5),
        (converters.to_seconds, 0.05),
        (converters.to_seconds, float("nan")),
        (converters.to_seconds, True),
        (converters.to_flag, "perhaps"),
        (converters.to_flag, 2),
        (converters.to_text, 7),
        (converters.to_text, "a\nb"),
        (converters.to_text, "a\0b"),
        (converters.to_text, "\udcff"),
        (converters.to_texts, {"a": 1}),
        (converters.to_pairs, "A"),
        (converters.to_pairs, 7),
        (converters.to_port_range, "9010:9000"),
        (converters.to_port_range, 0),
        (converters.to_port_range, "70000"),
        (converters.to_host_port, "cm"),
        (converters.to_size, "10X"),
        (converters.to_size, True),
        (converters.to_choice("a", "b"), "c"),
    ],
)
def test_what_is_none_is_named_with_its_option(convert: Convert, value: Any) -> None:
    with pytest.raises(SettingError, match=naming("option", repr(value))):
        convert("option", value)


def test_a_variables_name_is_one_that_htcondor_takes() -> None:
    assert converters.to_environment("env", ["_A1=b c"]) == (("_A1", "b c"),)
    for wrong in ("1A=b", "A B=c", "A-B=c"):
        with pytest.raises(SettingError, match=naming("env", repr(wrong))):
            converters.to_environment("env", [wrong])


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("queue 5", "'queue 5'"),
        ("rank Memory", "'rank Memory'"),
        ("arguments = a \\", "backslash"),
        ("two words = 1", "'two words = 1'"),
    ],
)
def test_a_line_that_is_no_submit_command_is_refused(line: str, found: str) -> None:
    with pytest.raises(SettingError) as raised:
        converters.to_batch_options("batch_options", line)
    assert found in str(raised.value)
    assert "batch_options" in str(raised.value)


def test_lines_may_be_written_with_backslash_codes() -> None:
    assert converters.batch_lines("a = 1\\nb = 2\n\n c = \\\\") == ["a = 1", "b = 2", "c = \\"]


def test_a_choice_that_is_known_and_refused_says_why() -> None:
    convert = converters.to_choice("condor", refused={"slurm": "use grid"})
    with pytest.raises(SettingError, match=naming("batch_type", "'slurm'", "use grid")):
        convert("batch_type", "slurm")
