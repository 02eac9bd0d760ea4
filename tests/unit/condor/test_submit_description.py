"""The text of a submit description, without HTCondor."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vine_sharedport.condor.submit_description import (
    Commands,
    SubmitDescription,
    Verbatim,
    parse_environment,
    quote_arguments,
    quote_environment,
    quote_path,
)
from vine_sharedport.errors import SettingError

# Of these are HTCondor's macros, and its quotes.
PIECES = ["$", "(", ")", "X", "DOLLAR", "ENV", "'", '"', " ", "\\", "[", "]", ":", "é", ","]
TEXTS = st.lists(st.sampled_from(PIECES)).map("".join)
ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0"))


@given(st.lists(TEXTS | ANY))
def test_a_quoted_environment_is_read_back(texts: list[str]) -> None:
    variables = {f"A{number}": text for number, text in enumerate(texts)}
    found = parse_environment(quote_environment(variables))
    assert found == variables
    assert not any(isinstance(text, Verbatim) for text in found.values())


def test_what_is_no_macro_is_written_as_it_is() -> None:
    assert quote_arguments(["$x", "a$", "(b)"]) == "\"'$x' 'a$' '(b)'\""


def test_a_macro_is_left_to_htcondor() -> None:
    quoted = quote_arguments(["--cores", Verbatim("$$(Cpus)"), "$$(Cpus)"])
    assert quoted == "\"'--cores' $$(Cpus) '$$(DOLLARDOLLAR)(Cpus)'\""


def test_a_users_environment_is_read_as_htcondor_does() -> None:
    found = parse_environment(
        " \"A=3 B='one ''quoted''' C='b c'd$(DOLLAR)e D=\"\"x\"\" 'E=f g'\""
    )
    assert found == {"A": "3", "B": "one 'quoted'", "C": "b cd$e", "D": '"x"', "E": "f g"}


def test_a_users_macros_are_written_as_they_were() -> None:
    text = "\"A='$$([ 1 + 1 ])' B=x$(Process)'''y z'\"\"\""
    found = parse_environment(text)
    assert all(isinstance(value, Verbatim) for value in found.values())
    assert quote_environment(found) == text
    assert quote_environment(parse_environment("\"'A=b $(X)'\"")) == "\"A='b $(X)'\""


@pytest.mark.parametrize(
    "text", ["A=1;B=2", "", '"', '"A=1', '"A=\'b"', '"A=1" "B=2"', '"A"', '"=1"']
)
def test_what_is_no_environment_is_refused(text: str) -> None:
    with pytest.raises(SettingError):
        parse_environment(text)


@pytest.mark.parametrize("text", ["a\nb", "a\r", "\0", "\udcff"])
def test_what_htcondor_cannot_be_told_is_refused_by_name(text: str) -> None:
    for attempt in (
        lambda: SubmitDescription(arguments=(text,)),
        lambda: SubmitDescription(environment={"A": text}),
        lambda: SubmitDescription(inputs=(text,)),
        lambda: SubmitDescription(inputs=(Verbatim(text),)),
        lambda: SubmitDescription(commands=Commands({"output": text})),
    ):
        with pytest.raises(SettingError, match=re.escape(repr(text))):
            attempt()


@pytest.mark.parametrize(
    "path", ["/$$(X)", "/$$ENV(X)", "/$ENV($(X))", "/$(a:$b($(c)", "/$$$("]
)
def test_a_path_that_htcondor_would_change_is_refused(path: str) -> None:
    for attempt in (lambda: quote_path(path), lambda: SubmitDescription(inputs=(path,))):
        with pytest.raises(SettingError, match=re.escape(repr(path))):
            attempt()


def test_a_comma_is_the_end_of_a_path_in_a_list_only() -> None:
    assert quote_path("/a,b") == "/a,b"
    with pytest.raises(SettingError, match=re.escape("'/a,b'")):
        SubmitDescription(inputs=("/a,b",))


def test_a_description_becomes_text_with_one_command_a_line() -> None:
    job = SubmitDescription(
        ("a b",), {"A": "1"}, ("/$(x)", Verbatim("/$(Process)")), Commands({"+B": 2})
    )
    assert job.format() == (
        "+B = 2\narguments = \"'a b'\"\nenvironment = \"A='1'\"\n"
        "transfer_input_files = /$(DOLLAR)(x), /$(Process)\n"
    )


def test_commands_are_one_by_any_spelling_and_leave_the_description_as_it_was() -> None:
    job = SubmitDescription((), {"A": "1"}, ("/a",), Commands({"+Some": "1", "rank": "2"}))
    more = {"MY.some": 3, "Env": '"A=2 B=$(C)"', "Transfer_Input_Files": "/$(b), /c,"}
    found = job.with_commands(more).with_defaults({"RANK": "4", "log": "l"})
    assert dict(found.commands) == {"+Some": "3", "rank": "2", "log": "l"}
    assert found.environment == {"A": "1", "B": "$(C)"}
    assert quote_environment(found.environment) == "\"A='1' B=$(C)\""
    assert found.inputs == ("/a", "/$(b)", "/c")
    assert dict(found.without("my.SOME", "none").commands) == {"rank": "2", "log": "l"}
    assert (dict(job.commands), job.inputs) == ({"+Some": "1", "rank": "2"}, ("/a",))
