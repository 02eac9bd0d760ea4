"""The text of a submit description, without HTCondor."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vine_sharedport.errors import LaunchError
from vine_sharedport.pool.description import (
    Macro,
    format_description,
    quote_arguments,
    quote_environment,
    quote_path,
    read_items,
)

# Of these are HTCondor's macros, and its quotes.
PIECES = ["$", "(", ")", "X", "DOLLAR", "ENV", "'", '"', " ", "\\", "[", "]", ":", "é", ","]


@given(st.lists(st.lists(st.sampled_from(PIECES)).map("".join)))
def test_quoted_arguments_are_read_back(arguments: list[str]) -> None:
    found = read_items(quote_arguments(arguments))
    assert found == arguments
    assert not any(isinstance(item, Macro) for item in found)


def test_what_is_no_macro_is_written_as_it_is() -> None:
    assert quote_arguments(["$x", "a$", "(b)"]) == "\"'$x' 'a$' '(b)'\""


def test_a_macro_is_left_to_htcondor_and_read_back_as_one() -> None:
    quoted = quote_arguments(["--cores", Macro("$$(Cpus)"), "$$(Cpus)"])
    assert quoted == "\"'--cores' '$$(Cpus)' '$$(DOLLARDOLLAR)(Cpus)'\""
    assert [type(item) for item in read_items(quoted)] == [str, Macro, str]
    assert quote_arguments(read_items(quoted)) == quoted


def test_what_others_quoted_is_read_as_htcondor_does() -> None:
    assert read_items("\"3 'one ''quoted''' A='b c'd$(DOLLAR)e\"") == [
        "3", "one 'quoted'", "A=b cd$e",
    ]  # fmt: skip
    with pytest.raises(LaunchError, match="old syntax"):
        read_items("A=1;B=2")


@pytest.mark.parametrize("text", ["a\nb", "a\r", "\0", "\udcff"])
def test_what_htcondor_cannot_be_told_is_refused_by_name(text: str) -> None:
    for attempt in (
        lambda: quote_arguments([text]),
        lambda: quote_environment({"A": text}),
        lambda: format_description({"output": text}),
    ):
        with pytest.raises(LaunchError, match="put it into a file") as raised:
            attempt()
        assert repr(text) in str(raised.value)


@pytest.mark.parametrize(
    "path", ["/$$(X)", "/$$ENV(X)", "/$ENV($(X))", "/$(a:$b($(c)", "/$$$("]
)
def test_a_path_that_htcondor_would_change_is_refused(path: str) -> None:
    with pytest.raises(LaunchError, match="replaces a part of the path"):
        quote_path(path)


def test_a_comma_is_the_end_of_a_path_in_a_list_only() -> None:
    assert quote_path("/a,b") == "/a,b"
    with pytest.raises(LaunchError, match="takes the comma"):
        quote_path("/a,b", in_list=True)
