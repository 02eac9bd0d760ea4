"""Whether HTCondor can read a ClassAd expression."""

from __future__ import annotations

import re

__all__ = ["is_expression"]

# condor_submit puts something else there: "$(NAME)" and "$NAME(...)".
_MACRO = re.compile(r"\$\w*\(")

# In a submit description, a backslash is a character like others, but before a quote.
# Source: ``ConvertEscapingOldToNew`` in src/condor_utils/compat_classad.cpp.
_BACKSLASH = re.compile(r'\\(?!")')

# classad2 reads recursively: the process dies of a chain of 1 MB, in a thread with a small
# stack of 100 kB (seen with 25.14).
_LONGEST = 20_000


def is_expression(text: str) -> bool:
    """Whether a text of a submit description is one ClassAd expression.

    What cannot be judged passes: one with macros, a very long one, and all of them where
    ``classad2``, which comes with ``htcondor``, is not installed. Reads no configuration.
    """
    if _MACRO.search(text) or len(text) > _LONGEST:
        return True
    try:
        import classad2
    except ImportError:
        return True
    plain = _BACKSLASH.sub(r"\\\\", text)
    try:
        # Alone it lets "a; b = 1" pass, and in parentheses "a) || (b".
        classad2.ExprTree(plain)
        classad2.ExprTree(f"({plain})")
    except Exception:  # the bindings raise their own types, by version
        return False
    return True
