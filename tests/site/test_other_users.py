"""What another ordinary user of the access point does to programs, with all he can read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from . import users
from .flows import Flow
from .site import Site

pytestmark = pytest.mark.site

COPY = """
    universe = vanilla
    executable = /bin/sleep
    transfer_executable = false
    should_transfer_files = no
    arguments = 600
    request_memory = 100
    request_disk = 1000
    requirements = {requirements}
    +VineSharedPort = "{manager}"
    +VineSharedPortFactory = "{factory}"
    +VineSharedPortLease = 4000000000
    log = copy.log
    queue 2
"""


@pytest.fixture
def bens_jobs(site: Site) -> Iterator[None]:
    """Remove ben's jobs afterwards."""
    yield
    site.run("ap", ["condor_rm", "ben"], user="ben")


@pytest.mark.usefixtures("bens_jobs")
def test_jobs_of_another_user_with_a_factorys_marks_change_nothing_for_it(site: Site) -> None:
    def of_ben() -> list[str]:
        command = ["condor_q", "-all", "-const", 'Owner == "ben"', "-af", "JobStatus"]
        return str(site.run("ap", command, user="ben").stdout).split()

    with Flow(site, "ann", "factory.py", limit=60) as flow:
        marks = flow.read()
        for number, requirements in enumerate(("false", "true")):
            name = f"copy{number}.sub"
            path = site["ap"].files / "home/ben" / name
            path.write_text(COPY.format(requirements=requirements, **marks))
            users.own(path, "ben")
            site.run("ap", ["condor_submit", name], user="ben")
        assert len(of_ben()) == 4
        (flow.directory / "go").touch()
        assert flow.read() == {"connected": 3, "problems": []}
        end = flow.read()
        assert (end["state"], end["seconds"] < 30) == ("ended", True), end
    assert len(of_ben()) == 4
