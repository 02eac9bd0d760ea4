"""``vine_sharedport expose``: what is wrong with its options is said before anything else."""

from __future__ import annotations

from typing import Callable

import pytest


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ([], "--port"),
        (["--port", "x"], "'x'"),
        (["--port", "0"], "65535"),
        (["--port", "65536"], "65535"),
        (["--port", "9123", "--no-gate", "--secret-file", "s"], "--no-gate"),
    ],
)
def test_options_that_cannot_be_are_named(
    main: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    found: str,
) -> None:
    with pytest.raises(SystemExit) as end:
        main("expose", *arguments)
    assert end.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert found in said.err


def test_a_name_that_is_no_sock_id_is_refused(
    main: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("expose", "--port", "9123", "--shared-port-name", "../x") == 2
    assert "'../x'" in capsys.readouterr().err
