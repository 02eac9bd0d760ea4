"""Bindings that refuse older daemons: how that is recognised, and what to do about it.

By the method FS a user of this host proves who he is: he makes a directory of the name that
the daemon gives. Newer clients make it only if the name tells the address that they have
connected to, and the names of older daemons do not. PyPI has the newest bindings and
distributions have older daemons, so a plain ``pip install`` meets this.

Source: ``src/condor_io/condor_auth_fs.cpp``, SEC_FS_ENFORCE_CHANNEL_BINDING.
"""

from __future__ import annotations

import functools
import os
import re
from typing import Any

from vine_sharedport import installing
from vine_sharedport.condor import bindings

__all__ = ["SETTING", "is_refused", "refusal"]

SETTING = "_CONDOR_SEC_FS_ENFORCE_CHANNEL_BINDING=False"
"""With this in the environment, clients make the directory without that check."""

# By its number and its text: 1004 is that of other failures too.
_REFUSAL = re.compile(r"\bFS(_REMOTE)?:1004:[^|]*server's network address")
_NUMBER = re.compile(r"\d+(?:\.\d+)+")


def is_refused(
    htcondor2: Any,
    error: BaseException,
    schedd: Any,
    version: str | None,
    *,
    at_once: bool,
) -> bool:
    """Whether an operation failed because the bindings refuse the schedd.

    Some operations fail without a reason (``act``, ``edit``, a collector's). Where the
    versions differ, a question that tells the reason is asked again for them.

    Args:
        htcondor2: The bindings.
        error: What they raised.
        schedd: Theirs; None for the one of this host.
        version: The schedd's, as in its ad, if that is known.
        at_once: It failed at once; a schedd that hangs is not asked again.
    """
    if _REFUSAL.search(str(error)):
        return True
    theirs = _number(version) or _local_version(htcondor2)
    if not at_once or theirs is None or theirs == _own_version(htcondor2):
        return False
    try:
        asked = htcondor2.Schedd() if schedd is None else schedd
        asked.query(constraint="false", projection=["ClusterId"], limit=1)
    except bindings.failures(htcondor2) as reason:
        return _REFUSAL.search(str(reason)) is not None
    return False


def refusal(htcondor2: Any, version: str | None) -> tuple[str, str]:
    """Return why the bindings refuse a schedd, and what to do, with the commands.

    Args:
        htcondor2: The bindings.
        version: The schedd's, as in its ad; that of this host's if it is not known.
    """
    own = _own_version(htcondor2)
    theirs = _number(version) or _local_version(htcondor2)
    place = os.path.dirname(str(htcondor2.__file__))
    cause = (
        f"it is HTCondor {theirs or 'of another version'}, and the Python bindings are {own} "
        f"({place}), which do not accept how it checks who you are (FS:1004: the directory's "
        "name does not match the server's network address)"
    )
    setting = (
        f"'export {SETTING}' and start the program again, which gives up a check: a server "
        "that poses as this one could then act in your name at the real one"
    )
    if theirs == own:  # an address that is translated on the way to the schedd
        return cause, setting
    command = _command()
    if command is not None:
        return cause, f"use the system's own bindings: '{command}'; or {setting}"
    if theirs is None:
        return cause, f"use bindings of the daemons' version, or {setting}"
    series = f'"htcondor<{int(theirs.partition(".")[0]) + 1}"'
    command = installing.command(pip=series, debian="condor", conda=series)
    return cause, f"take bindings of the daemons' series: '{command}'; or {setting}"


# A factory meets the same at each cycle; other Pythons are started to find it out.
@functools.cache
def _command() -> str | None:
    return installing.instead("htcondor2", "htcondor")


def _own_version(htcondor2: Any) -> str | None:
    return _number(str(htcondor2.version()))


def _local_version(htcondor2: Any) -> str | None:
    """Return the version of this host's schedd, from the file with its ad."""
    try:
        ad = htcondor2.Collector().locate(htcondor2.DaemonType.Schedd)
        return _number(str(ad["CondorVersion"]))
    except bindings.failures(htcondor2):
        return None


def _number(version: str | None) -> str | None:
    """Return the number in what HTCondor says, such as ``$CondorVersion: 23.9.6 2026-…``."""
    found = _NUMBER.search(version or "")
    return found[0] if found else None
