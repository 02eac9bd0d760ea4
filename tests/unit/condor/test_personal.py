"""What a personal pool may be asked for."""

from __future__ import annotations

import pytest

from tests.values import naming
from vine_sharedport.condor import personal, standalone_pool
from vine_sharedport.errors import SettingError

pytestmark = pytest.mark.usefixtures("shell")


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "many", 10**9, object()])
def test_programs_are_refused_it_too(value: object) -> None:
    with pytest.raises(SettingError, match=naming(f"cpus={value!r}", 1, 10000)):
        personal.PersonalPool(cpus=value)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match=naming(f"memory={value!r}", 128)):
        standalone_pool.start_pool(memory=value)  # type: ignore[arg-type]


def test_numbers_of_any_kind_are_taken() -> None:
    personal.PersonalPool(cpus="3", memory=128)  # type: ignore[arg-type]
