"""One site for all its tests; where none can be made, they are skipped with the reason."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .. import tiers
from . import netfilter
from .hosts import HOSTS
from .site import Site


def missing() -> str | None:
    """Return why no site can be made here; None if one can."""
    if not HOSTS.is_mount():
        return "a site needs root: tests/site/run pytest tests/site"
    try:
        netfilter.kind()
    except LookupError as error:
        return f"no NAT: {error}"
    return None


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """Return a site that is up."""
    reason = missing()
    if reason:
        tiers.missing("site", reason)
    with Site() as running:
        yield running
