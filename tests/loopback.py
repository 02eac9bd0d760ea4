"""Ports of this machine that behave as those of others do."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def mute(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """Make a port that answers nothing at all, as behind a firewall: its backlog is full."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(socket.socket(family))
        made.bind((host, port))
        made.listen(0)
        stack.enter_context(socket.socket(family)).connect(made.getsockname())
        with socket.socket(family) as probe:
            probe.settimeout(0.1)
            with pytest.raises(socket.timeout):
                probe.connect(made.getsockname())
        yield made.getsockname()[1]
