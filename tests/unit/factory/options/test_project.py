"""Which OSPool project a user's jobs are of."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.values import naming
from vine_sharedport.errors import SettingError
from vine_sharedport.factory.options import project

MAP = """\
# user projects
* ann  Chem_Ann
* bob  Phys_Bob,Chem_Ann
* cem  "Phys Cem, Bio"
* dan@example.org Dan
alt ann Other
* /^e.*/ Group_E
* /(/ Broken
"""


@pytest.mark.parametrize(
    ("user", "projects"),
    [
        ("ann", ["Chem_Ann"]),
        ("bob", ["Phys_Bob", "Chem_Ann"]),
        ("cem", ["Phys", "Cem", "Bio"]),
        ("eva", ["Group_E"]),
        ("an", []),
        ("annabel", []),
    ],
)
def test_projects_of_a_user(user: str, projects: list[str]) -> None:
    assert project.projects_in(MAP, user) == projects


def test_the_one_project_is_found_and_else_said_what_to_set(tmp_path: Path) -> None:
    path = tmp_path / "map"
    path.write_text(MAP)
    missing = str(tmp_path / "missing")
    assert project.find_project("ann", files=[missing, str(path)]) == "Chem_Ann"
    with pytest.raises(SettingError, match=naming(path, 2, "bob", "Phys_Bob", "Chem_Ann")):
        project.find_project("bob", files=[str(path)])
    with pytest.raises(SettingError, match=r"zoe.*\+ProjectName"):
        project.find_project("zoe", files=[str(path)])
    with pytest.raises(SettingError, match=r"ProjectName"):
        project.find_project("zoe", files=[missing])
    path.chmod(0)
    if not os.access(path, os.R_OK):  # as root can
        with pytest.raises(SettingError, match="Permission denied"):
            project.find_project("ann", files=[str(path)])
        path.chmod(stat.S_IRUSR)


@given(st.text(), st.text())
def test_any_map_can_be_read(text: str, user: str) -> None:
    assert isinstance(project.projects_in(text, user), list)
