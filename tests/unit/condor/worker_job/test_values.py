"""Values of options: what people write for them, and what is refused with what is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest

from tests.values import naming
from vine_sharedport.condor.worker_job import values
from vine_sharedport.errors import SettingError

Convert = Callable[[str, Any], Any]


@pytest.mark.parametrize(
    ("convert", "value", "expected"),
    [
        (values.to_integer(1, "n"), "1.2", 2),
        (values.to_integer(0, "n", none_below=0), -1, None),
        (values.to_megabytes, "1.5 GB", 1536),
        (values.to_megabytes, 0, None),
        (values.to_seconds, "2m", 120.0),
        (values.to_whole_seconds(1), 1.5, 2),
        (values.to_flag, " Yes ", True),
        (values.to_flag, "", False),
        (values.to_text, Path("/a"), "/a"),
        (values.to_text, "", None),
        (values.to_lines, "a\nb", "a\nb"),
        (values.to_command_line, ["a b", "c"], "'a b' c"),
        (values.to_command_line, [], None),
        (values.to_texts, ["a", "", Path("b")], ("a", "b")),
        (values.to_words, ["a b", "c"], ("a", "b", "c")),
        (values.to_pairs, "A=1\nB=x=y", (("A", "1"), ("B", "x=y"))),
        (values.to_pairs, {"A": 1, "B": True}, (("A", "1"), ("B", "True"))),
        (values.to_pairs, ["A=1", ("A", "2")], (("A", "2"),)),
        (values.to_commands, {"rank": " Memory "}, (("rank", "Memory"),)),
        (values.to_requirements, ["A", "B || C"], "(A) && (B || C)"),
        (values.to_requirements, "A", "A"),
        (values.to_wrapper, ["nice", "time"], "time nice"),
        (values.to_port_range, 9000, "9000"),
        (values.to_port_range, "9000:9010", "9000:9010"),
        (values.to_host_port, "cm:9618", "cm:9618"),
        (values.to_size, "10M", 10 << 20),
        (values.to_size, 17, 17),
        (values.to_choice("a", "b"), "a", "a"),
    ],
)
def test_what_people_write_becomes_what_they_mean(
    convert: Convert, value: Any, expected: Any
) -> None:
    assert convert("option", value) == expected


@pytest.mark.parametrize(
    ("convert", "value"),
    [
        (values.to_integer(1, "n"), 0),
        (values.to_integer(1, "n"), True),
        (values.to_integer(1, "n"), "1e3"),
        (values.to_integer(1, "n"), float("inf")),
        (values.to_integer(1, "n"), 1 << 53),
        (values.to_megabytes, 0.5),
        (values.to_seconds, 0.05),
        (values.to_seconds, float("nan")),
        (values.to_seconds, True),
        (values.to_flag, "perhaps"),
        (values.to_flag, 2),
        (values.to_text, 7),
        (values.to_text, "a\nb"),
        (values.to_text, "a\0b"),
        (values.to_text, "\udcff"),
        (values.to_texts, {"a": 1}),
        (values.to_pairs, "A"),
        (values.to_pairs, 7),
        (values.to_port_range, "9010:9000"),
        (values.to_port_range, 0),
        (values.to_port_range, "70000"),
        (values.to_host_port, "cm"),
        (values.to_size, "10X"),
        (values.to_size, True),
        (values.to_choice("a", "b"), "c"),
    ],
)
def test_what_is_none_is_named_with_its_option(convert: Convert, value: Any) -> None:
    with pytest.raises(SettingError, match=naming("option", repr(value))):
        convert("option", value)


def test_a_variables_name_is_one_that_htcondor_takes() -> None:
    assert values.to_environment("env", ["_A1=b c"]) == (("_A1", "b c"),)
    for wrong in ("1A=b", "A B=c", "A-B=c"):
        with pytest.raises(SettingError, match=naming("env", repr(wrong))):
            values.to_environment("env", [wrong])


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
        values.to_batch_options("batch_options", line)
    assert found in str(raised.value)
    assert "batch_options" in str(raised.value)


def test_lines_may_be_written_with_backslash_codes() -> None:
    assert values.batch_lines("a = 1\\nb = 2\n\n c = \\\\") == ["a = 1", "b = 2", "c = \\"]


def test_a_choice_that_is_known_and_refused_says_why() -> None:
    convert = values.to_choice("condor", refused={"slurm": "use grid"})
    with pytest.raises(SettingError, match=naming("batch_type", "'slurm'", "use grid")):
        convert("batch_type", "slurm")
