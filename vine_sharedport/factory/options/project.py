"""The OSPool project that a user's jobs are counted for, as this access point knows it.

An access point of the OSPool has a map from users to projects. Its schedd gives each job
the user's project by it; a user of several chooses one with ``+ProjectName``.

Source: OSPool's user documentation, "Set and View Project Usage", which names the file;
HTCondor's ``FEATURE:AssignProjectName`` and ``MapFile.cpp`` for the parameters and the
lines. Tried with such a map on a schedd of the sandbox, not on an access point of the OSPool.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator

from vine_sharedport.condor import bindings
from vine_sharedport.condor.personal_pool.user import login_name
from vine_sharedport.errors import SettingError, SharedPortError

__all__ = ["MAP_FILE", "find_project", "map_files", "projects_in"]

log = logging.getLogger(__name__)

MAP_FILE = "/etc/condor/UserToProjectMap.txt"
"""Where access points of the OSPool have the map."""

# FEATURE:AssignProjectName writes: EVALSET ProjectName usermap("NAME",Owner,ProjectName).
_TRANSFORM = "JOB_TRANSFORM_SetProjectName"
_MAX_MAP = 16 << 20  # bytes; an access point with 5,000 users has 0.2 MB


def find_project(user: str | None = None, *, files: Iterable[str] | None = None) -> str:
    """Return the one project of a user.

    Args:
        user: By default who runs this.
        files: Maps to look into; by default ``map_files()``.

    Raises:
        SettingError: There is none, or several; the message says what to set.
    """
    user = login_name() if user is None else user
    how = "set the submit command +ProjectName, as in commands={'+ProjectName': '\"NAME\"'}"
    read, missing = [], []
    for path in map_files() if files is None else files:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read(_MAX_MAP)
        except OSError as error:
            missing.append(f"{path}: {error.strerror}")
            continue
        read.append(path)
        found = projects_in(text, user)
        if len(found) > 1:
            raise SettingError(
                f"{path} names {len(found)} OSPool projects for {user}: {', '.join(found)}; "
                f"choose one: {how}"
            )
        if found:
            log.info("OSPool project %s, for user %s in %s", found[0], user, path)
            return found[0]
    if read:
        raise SettingError(
            f"{', '.join(read)} names no OSPool project for {user}; {how}, or ask the access "
            "point's staff to be added to one"
        )
    raise SettingError(
        f"no map of users to OSPool projects can be read here ({'; '.join(missing)}): this "
        f"seems to be no access point of the OSPool; {how}"
    )


def map_files() -> list[str]:
    """Return the maps to look into: what HTCondor is configured to use, then the usual one."""
    found = []
    try:
        htcondor2 = bindings.load()
    except SharedPortError as error:
        log.debug("HTCondor's parameters are not known: %s", error)
    else:
        transform = bindings.parameter(htcondor2, _TRANSFORM) or ""
        match = re.search(r"usermap\(\s*\"([\w.-]+)\"", transform, re.IGNORECASE)
        if match is not None:
            path = bindings.parameter(htcondor2, f"CLASSAD_USER_MAPFILE_{match[1]}")
            if path is not None:
                found.append(path)
    return [*found, *([MAP_FILE] if MAP_FILE not in found else [])]


def projects_in(text: str, user: str) -> list[str]:
    """Return a user's projects in a map's text, each once; the first line that fits counts."""
    names = {user.lower(), user.lower().partition("@")[0]}
    for fields in _lines(text):
        principal = fields[1]
        if len(principal) > 1 and principal[0] == principal[-1] == "/":
            try:
                fits = re.search(principal[1:-1], user) is not None
            except re.error:
                continue  # HTCondor says it ignores such a line, too
        else:
            fits = principal.lower() in names
        if fits:
            return list(dict.fromkeys(re.findall(r"[^\s,]+", fields[2])))
    return []


def _lines(text: str) -> Iterator[list[str]]:
    """Yield the fields of each line: a set's name (``*``), the user, the projects."""
    for line in text.splitlines():
        if line.lstrip().startswith(("#", "@")):
            continue
        fields = [
            quoted or plain for quoted, plain in re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', line)
        ]
        # Projects of one user may stand with blanks behind the commas.
        if len(fields) > 2 and fields[0] == "*":
            yield [fields[0], fields[1], " ".join(fields[2:])]
