"""What a test may hold of a message: the values that it names, in any order and words."""

from __future__ import annotations

import re


def naming(*values: object) -> str:
    """Return a pattern for `match`: of a message that names each of the values."""
    each = (rf"(?=.*(?<!\w){re.escape(str(value))}(?!\.?\w))" for value in values)
    return "(?s)" + "".join(each)
