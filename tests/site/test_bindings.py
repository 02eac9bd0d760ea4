"""With the distribution's bindings of HTCondor and with PyPI's newest, jobs can be submitted.

Where the bindings refuse the daemons, the message has commands; what works is the same call
after one of them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import users
from .flows import PROGRAMS
from .site import Site

pytestmark = pytest.mark.site

CALLS = {
    "submit_workers": "python call.py workers",
    "factory": "python call.py factory",
    # The manager itself is a job, and submits its workers from there.
    "manager submit": """
        vine_sharedport manager submit --name call call.py workers &&
        vine_sharedport manager log call --follow""",
}


class Account:
    """A user's shell on the access point, with the environment activated."""

    def __init__(self, site: Site, user: str) -> None:
        self.site, self.user = site, user
        self.venv = site["ap"].files / f"home/{user}/vine"
        (self.packages,) = self.venv.glob("lib/python3*/site-packages")
        users.give(PROGRAMS / "call.py", site["ap"].files / f"home/{user}/call.py", user)

    def do(self, script: str) -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = self.site.run(
            "ap", ["bash", "-c", f". ~/vine/bin/activate; {script}"],
            user=self.user, timeout=120, check=False,
        )  # fmt: skip
        return done

    def version(self) -> str:
        said = self.do("python -c 'import htcondor2; print(htcondor2.version())'").stdout
        found = re.search(r"\d+\.\d+\.\d+", said)
        assert found is not None, said
        return found[0]


@pytest.fixture
def ben(site: Site, tmp_path: Path) -> Iterator[Account]:
    """Return the user with PyPI's bindings, who has them again afterwards."""
    account = Account(site, "ben")
    own = [p for p in account.packages.iterdir() if p.name.startswith(("htcondor", "classad"))]
    for path in own:
        shutil.copytree(path, tmp_path / path.name, symlinks=True)
    yield account
    for path in own:
        if not path.exists():
            subprocess.run(["cp", "-a", tmp_path / path.name, path], check=True)


@pytest.mark.parametrize("call", CALLS)
def test_with_the_bindings_of_the_distribution(site: Site, call: str) -> None:
    ann = Account(site, "ann")
    daemons = site.run("ap", ["condor_version"]).stdout
    assert ann.version().split(".")[0] == re.findall(r"\d+", daemons)[0]
    done = ann.do(CALLS[call])
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"task: ann on (public|nat)", done.stdout), done.stdout


@pytest.mark.parametrize("remedy", ["bindings", "setting"])
@pytest.mark.parametrize("call", CALLS)
def test_with_the_newest_bindings_and_what_the_message_says(
    call: str, remedy: str, ben: Account
) -> None:
    newest = ben.version()
    done = ben.do(CALLS[call])
    if done.returncode == 0:
        assert "task: ben on" in done.stdout
        return
    message = done.stdout + done.stderr
    daemons = re.findall(r"\d+\.\d+\.\d+", ben.site.run("ap", ["condor_version"]).stdout)[0]
    assert newest in message
    assert daemons in message
    found = re.search(r" '(\S.* htcondor)'; or '(export \S+)'", message)
    assert found is not None, message
    if remedy == "bindings":
        changed = ben.do(found[1])
        assert changed.returncode == 0, changed.stdout + changed.stderr
        assert ben.version() != newest
        again = ben.do(CALLS[call])
    else:
        again = ben.do(f"{found[2]}; {CALLS[call]}")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "task: ben on" in again.stdout
