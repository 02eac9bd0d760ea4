"""What tests of several rooms need."""

from __future__ import annotations

from .pools import shell

__all__ = ["shell"]
