"""One site for all its tests; where none can be made, they are skipped with the reason."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .. import tiers
from . import mounts, netfilter
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
    if "PYTEST_XDIST_WORKER" in os.environ:
        _leave_the_others()
    with Site() as running:
        yield running


def _leave_the_others() -> None:
    """Have an internet of one's own, where several processes run tests at once."""
    os.unshare(os.CLONE_NEWNET | os.CLONE_NEWNS)
    mounts.make_private()
    mounts.mount("tmpfs", "site", HOSTS, options="mode=755")
