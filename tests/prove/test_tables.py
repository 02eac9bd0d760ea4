"""The tables of mends are about the code as it is now."""

from __future__ import annotations

import re

import pytest

from tests.prove.mend import ROOT, Mend
from tests.prove.revert import MENDS


@pytest.mark.parametrize("mend", MENDS, ids=lambda mend: mend.name)
def test_each_mend_is_there_and_so_are_its_tests(mend: Mend) -> None:
    assert mend.without() != (ROOT / mend.file).read_text()
    assert mend.tests
    for test in mend.tests:
        path, _, name = test.split()[0].partition("::")
        source = (ROOT / path).read_text()
        function = re.sub(r"\[.*", "", name)
        assert f"def {function}(" in source or not name


def test_each_mend_has_a_name_of_its_own() -> None:
    names = [mend.name for mend in MENDS]
    assert len(names) == len(set(names))
