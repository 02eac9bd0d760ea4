"""What a manager's job is submitted with, and what is refused before; no schedd is asked."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.values import naming
from vine_sharedport.condor.manager_job import job as manager_job
from vine_sharedport.condor.manager_job import runner
from vine_sharedport.condor.manager_job.description import (
    ManagerProgram,
    decode_program,
    describe_manager,
    name_of,
)
from vine_sharedport.condor.submit_description import SubmitDescription
from vine_sharedport.errors import SettingError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a directory with a program, and in a small environment."""
    for name in list(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.py").write_text("")
    return tmp_path


def described(*arguments: Any, **options: Any) -> SubmitDescription:
    return describe_manager(ManagerProgram(*(arguments or ("sweep.py",)), **options))


def test_it_is_a_local_job_of_this_python_in_this_directory(here: Path) -> None:
    job = described("sweep.py", ["--size", "9 $x"], name="s1", log_dir="logs")
    told = job.commands
    assert told["universe"] == "local"
    assert told["executable"] == sys.executable
    assert told["initialdir"] == str(here)
    assert job.arguments == (
        "-u", runner.__file__, "60", "file", f"{here}/sweep.py", "--size", "9 $x",
    )  # fmt: skip
    for what, end in (("output", "out"), ("error", "err"), ("log", "log")):
        assert told[what] == f"{here}/logs/s1.$(Cluster).{end}"
    assert told["My.VineSharedPortManager"] == '"s1"'
    assert told["My.VineSharedPortProgram"] == "\"sweep.py --size '9 %24x'\""
    assert told["remove_kill_sig"] == told["hold_kill_sig"] == "SIGTERM"


def test_status_tells_the_program_as_it_was_given() -> None:
    words = ["a'b", 'c"d', "\\", "$$(X)", "$(X)", "100%25", "$ENV(HOME)"]
    told = described("sweep.py", words).commands["My.VineSharedPortProgram"]
    assert not set(told[1:-1]) & set('"\\$')
    assert shlex.split(decode_program(told[1:-1])) == ["sweep.py", *words]


def test_describing_makes_nothing(here: Path) -> None:
    described()
    assert os.listdir(here) == ["sweep.py"]


@pytest.mark.parametrize(
    ("name", "value", "passed"),
    [
        ("PYTHONPATH", "a:b", True),
        ("VIRTUAL_ENV", "/v", True),
        ("CONDA_PREFIX", "/c", True),
        ("CONDOR_CONFIG", "/etc/x", True),
        ("_CONDOR_SEC_FS_ENFORCE_CHANNEL_BINDING", "False", True),
        ("_condor_SEC_TOKEN_DIRECTORY", "/usr/bin", True),
        ("_CONDOR_SEC_TOKEN_REQUIRED", "True", True),
        ("_CONDOR_LOCAL_DIR", "$(HOME)/x", True),
        ("_CONDOR_SEC_PASSWORD_FILE", "/3xfGq0bS8w+Yg==", False),
        ("_CONDOR_PASSWORD", "123456", False),
        ("_CONDOR_MY_PASSWORD", "hunter2", False),
        ("_CONDOR_API_KEY", "abc+/=", False),
        ("_CONDOR_COLLECTOR_HOST", "cm.example.org:9618", True),
        ("_CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS", "FS, IDTOKENS", True),
        ("_CONDOR_QUEUE_LIMIT_OF_MINE", "600", True),
        ("_CONDOR_TOOL_DEBUG", "D_FULLDEBUG", True),
        ("_CONDOR_MY_KNOB", "hunter2", False),
        ("_CONDOR_ACCESS", "eyJhbGciOiJIUzI1NiJ9.e30.sig", False),
        ("_CONDOR_PIN", "123456789012", False),
        ("_CONDOR_PROXY_HOST", "http://user:hunter2@proxy:3128", False),
        ("_CONDOR_SCRATCH_DIR", "/execute/dir_1", False),
        ("_CONDOR_ANCESTOR_12", "1:2:3", False),
        ("_CONDOR_CREDS", "/x", False),
        ("AWS_SECRET_ACCESS_KEY", "abc", False),
        ("SSH_AUTH_SOCK", "/tmp/x", False),
        ("https_proxy", "http://user:password@proxy", False),
        ("VINE_SHAREDPORT_SECRET_FILE", "/x", False),
    ],
)
def test_the_environment_is_a_short_list(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, passed: bool
) -> None:
    monkeypatch.setenv(name, value)
    job = described()
    assert (job.environment.get(name) == value) is passed
    assert (f"{name}=" in job.format()) is passed
    assert (value.replace("$", "'$'") in job.format()) is passed


def test_a_setting_that_may_be_a_secret_is_named_when_it_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("_CONDOR_MY_PASSWORD", "hunter2")
    monkeypatch.setenv("_CONDOR_MY_KNOB", "hunter2")
    described()
    for name in ("_CONDOR_MY_PASSWORD", "_CONDOR_MY_KNOB"):
        assert f"--env {name}" in caplog.text
    assert "hunter2" not in caplog.text


def test_further_variables_are_the_users_choice(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("API_TOKEN", "hunter2")
    caplog.set_level(logging.WARNING)
    assert described(env=["API_TOKEN", "A=b=c", "E="]).environment == {
        "PATH": "/bin", "VINE_SHAREDPORT_OWN_POOL": "no", "API_TOKEN": "hunter2",
        "A": "b=c", "E": "",
    }  # fmt: skip
    assert "API_TOKEN" in caplog.text
    assert "hunter2" not in caplog.text


def test_run_gives_an_unchanged_program_a_shared_port(here: Path) -> None:
    told = described("sweep.py", ["x"], shared_port=["--shared-port-name", "s-1"])
    root = Path(manager_job.__file__).resolve().parents[3]
    main = str(root / "vine_sharedport" / "__main__.py")
    assert told.arguments[2:] == (
        "60",
        "file",
        main,
        "run",
        "--shared-port-name",
        "s-1",
        f"{here}/sweep.py",
        "x",
    )
    assert told.environment["PYTHONPATH"] == str(root)
    told = described("a.b", module=True, shared_port=[])
    assert told.arguments[3:] == ("file", main, "run", "-m", "a.b")
    assert described("a.b", module=True).arguments[3:] == ("module", "a.b")


@pytest.mark.parametrize(
    ("program", "name"),
    [
        ("sweep.py", "sweep"),
        ("x/big sweep.v2.py", "big_sweep.v2"),
        ("2d.py", "m_2d"),
        ("-x.py", "m_-x"),
        ("a" * 90 + ".py", "a" * 60),
    ],
)
def test_a_name_is_made_of_the_programs(program: str, name: str) -> None:
    assert name_of(program) == name


@pytest.mark.parametrize(
    ("options", "values"),
    [
        ({"program": "none.py"}, ("none.py",)),
        ({"name": 'a"b'}, ("'a\"b'", 64)),
        ({"name": "12"}, ("'12'", 64)),
        ({"name": "../x"}, ("'../x'", 64)),
        ({"env": ["NONE"]}, ("--env NONE",)),
        ({"env": ["a b=1"]}, ("--env", "'a b'")),
        ({"env": ["A=1\n2"]}, ("A", r"'1\n2'")),
        ({"grace": -1}, (-1, 0)),
    ],
)
def test_what_would_become_a_held_job_is_refused(
    options: dict[str, Any], values: tuple[object, ...]
) -> None:
    with pytest.raises(SettingError, match=naming(*values)):
        describe_manager(ManagerProgram(**{"program": "sweep.py", **options}))
