"""A schedd, near or far: submitting jobs to it, asking for them, acting on them.

Ads come back as plain Python values, so that what stands above needs no HTCondor to be
tested.
"""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Callable, TypeVar

from vine_sharedport.condor import bindings, versions
from vine_sharedport.condor.personal_pool.directory import way_to_own_pool
from vine_sharedport.condor.refusals import explain_refusal
from vine_sharedport.condor.submit_description import SubmitDescription
from vine_sharedport.errors import ScheddError, SettingError
from vine_sharedport.trusted_files import check_working_directory

__all__ = ["ACTIONS", "Schedd", "class_ad_string"]

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")

ACTIONS = {
    "hold": "Hold",
    "release": "Release",
    "remove": "Remove",
    "remove_by_force": "RemoveX",
    "vacate": "Vacate",
    "vacate_fast": "VacateFast",
}
"""What ``Schedd.act`` can do, with the names in ``htcondor2.JobAction``."""


# A schedd that has moved refuses at once; one that hangs takes the bindings 20 s, and is
# not asked twice.
_AT_ONCE = 5.0


def class_ad_string(text: str) -> str:
    """Return a string as it stands in a ClassAd expression, such as a constraint."""
    # A backslash stands for itself there (seen with 25.14): two would be another text.
    return '"' + text.replace('"', '\\"') + '"'


class Schedd:
    """A schedd that takes our jobs. Opens nothing before it is used.

    Args:
        schedd: Its name; the one of this host by default.
        pool: The collector that knows it; this host's by default. Without ``schedd``, it
            is the only one that this collector knows.
    """

    def __init__(self, schedd: str | None = None, pool: str | None = None) -> None:
        self.name = schedd
        self.pool = pool
        self._located: Any = None
        self._located_by: Any = None
        self._version: str | None = None

    def __repr__(self) -> str:
        return f"<Schedd {self.name or 'of this host'} pool={self.pool or 'own'}>"

    def is_here(self) -> bool:
        """Whether this host has a schedd, running or not.

        Raises:
            MissingDependencyError: There are no bindings.
            DiscoveryError: There is no HTCondor here.
        """
        htcondor2 = bindings.load()
        try:
            htcondor2.Collector().locate(htcondor2.DaemonType.Schedd)
        except bindings.failures(htcondor2):
            return False
        return True

    def submit(
        self, description: SubmitDescription, count: int = 1, *, spool: bool = False
    ) -> int:
        """Submit one cluster.

        Never tried twice: whether a schedd that did not answer has the jobs, the caller
        finds out by a mark in their ads.

        Args:
            description: Of each job.
            count: Number of jobs.
            spool: Send the input files to the schedd too. Jobs whose files could not be
                sent are removed.

        Returns:
            The cluster's number.

        Raises:
            ScheddError: The schedd does not take them; with its reason.
        """
        if count < 1:
            raise SettingError(f"cannot submit {count} jobs; give a count of 1 or more")
        if "initialdir" not in description.commands:
            # Else htcondor2 would end this whole process, by an assertion.
            check_working_directory("submit jobs that start")
        htcondor2 = bindings.load()
        with self._errors(htcondor2, "submit jobs"), _logged_warnings():
            schedd = self._locate(htcondor2)
            submit = htcondor2.Submit(description.format())
            result = schedd.submit(submit, count=count, spool=spool)
        cluster = int(result.cluster())
        if spool:
            try:
                with self._errors(htcondor2, f"send the files of cluster {cluster}"):
                    schedd.spool(result)
            except ScheddError:
                # They would be held for ever, waiting for their files.
                with contextlib.suppress(ScheddError):
                    self.act("remove", f"ClusterId == {cluster}", "its files were not sent")
                raise
        where = self.name or "local"
        log.debug("submitted cluster=%d jobs=%d schedd=%s", cluster, count, where)
        return cluster

    def query(self, constraint: str, projection: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Return the ads of the jobs for which the ClassAd expression is true.

        Args:
            constraint: For example ``ClusterId == 12``.
            projection: Attributes wanted; all by default. HTCondor may add some.

        Returns:
            Plain dictionaries, spelled as in the projection. An attribute that is
            undefined is not there; an expression stands there by its value, as text if
            it has none.

        Raises:
            ScheddError: The schedd does not answer.
        """
        ads = self._call(
            "ask for jobs",
            lambda _, schedd: schedd.query(constraint=constraint, projection=list(projection)),
        )
        spelling = {name.lower(): name for name in projection}
        return [_plain_ad(ad, spelling) for ad in ads]

    def history(
        self, constraint: str, projection: Sequence[str] = (), *, count: int, since: float
    ) -> list[dict[str, Any]]:
        """Return the ads of jobs that have left the queue, the last ones first.

        Args:
            constraint: As for ``query``.
            projection: As for ``query``.
            count: At most so many.
            since: Look no further back than this time, in seconds since 1970: to read a
                long history is work for the schedd.

        Raises:
            ScheddError: The schedd does not answer.
        """
        import classad2

        # The bindings of 23.9 take a string for a job's number.
        until = classad2.ExprTree(f"EnteredCurrentStatus < {int(since)}")
        ads = self._call(
            "read the history",
            lambda _, schedd: list(
                schedd.history(constraint, list(projection), count, since=until)
            ),
        )
        spelling = {name.lower(): name for name in projection}
        return [_plain_ad(ad, spelling) for ad in ads]

    def act(self, action: str, constraint: str, reason: str) -> int:
        """Do something with the jobs for which the expression is true.

        Args:
            action: One of ``ACTIONS``.
            constraint: A ClassAd expression.
            reason: Recorded in the jobs' ads and event log.

        Returns:
            To how many jobs it was done.

        Raises:
            ScheddError: The schedd does not answer, or forbids it.
        """
        if action not in ACTIONS:
            raise SettingError(f"no such action: {action!r}; known are {', '.join(ACTIONS)}")

        def do(htcondor2: Any, schedd: Any) -> Any:
            # A pair: the bindings (23.9 and 25.14) lose a reason that is a plain string.
            chosen = getattr(htcondor2.JobAction, ACTIONS[action])
            return schedd.act(chosen, f"({constraint})", reason=(reason, 0))

        result = self._call(f"{action} jobs", do)
        if result is None:
            return 0
        denied = int(result["TotalPermissionDenied"])
        if denied:
            raise ScheddError(
                f"cannot {action} jobs: {self._what()} denies it for {denied} of the jobs with "
                f"{constraint}: they are another user's, or this user has no write access",
                denied=denied,
            )
        return int(result["TotalSuccess"])

    def edit(self, constraint: str, attribute: str, value: str | int | float | bool) -> int:
        """Change an attribute of the jobs for which the expression is true.

        Args:
            constraint: A ClassAd expression.
            attribute: Its name.
            value: A number or a truth value; a string is a ClassAd expression, so that
                a text stands in double quotes.

        Returns:
            How many jobs were changed.

        Raises:
            ScheddError: The schedd does not answer, or forbids it.
        """
        text = str(value).lower() if isinstance(value, bool) else str(value)
        try:
            changed = self._call(
                f"set {attribute} = {text}",
                lambda _, schedd: schedd.edit(f"({constraint})", attribute, text),
            )
        except ScheddError:
            # The bindings say the same when no job matches.
            if not self.query(constraint, ["ClusterId"]):
                return 0
            raise
        return int(changed)

    def retrieve(self, constraint: str) -> None:
        """Fetch the output files of jobs that were submitted with ``spool``.

        Raises:
            ScheddError: The schedd does not answer, or a file cannot be written.
        """
        self._call("fetch output files", lambda _, schedd: schedd.retrieve(f"({constraint})"))

    def _call(self, what: str, do: Callable[[Any, Any], _Result]) -> _Result:
        """Do what can be done twice; again at once if the schedd may just have moved."""
        htcondor2 = bindings.load()
        was_located = self._located is not None and self._located_by is htcondor2
        if was_located:
            start = time.monotonic()
            try:
                return do(htcondor2, self._locate(htcondor2))
            except bindings.failures(htcondor2) as error:
                if time.monotonic() - start > _AT_ONCE:
                    with self._errors(htcondor2, what):
                        raise
                log.debug("%s: %s; looking for the schedd again", what, error)
                self._located = None
        with self._errors(htcondor2, what):
            return do(htcondor2, self._locate(htcondor2))

    def _locate(self, htcondor2: Any) -> Any:
        """Return the bindings' object; the address is remembered until something fails."""
        if self._located is None or self._located_by is not htcondor2:
            if self.name is None and self.pool is None:
                found = htcondor2.Schedd()
            else:
                ad = self._ad(htcondor2)
                found, self._version = htcondor2.Schedd(ad), str(ad.get("CondorVersion"))
            self._located, self._located_by = found, htcondor2
        return self._located

    def _ad(self, htcondor2: Any) -> Any:
        """Return the ad of a schedd that was named."""
        collector = htcondor2.Collector(self.pool)
        if self.name is not None:
            # None for an unknown name, and Schedd(None) would be the local one.
            ad = collector.locate(htcondor2.DaemonType.Schedd, self.name)
            if ad is not None:
                return ad
        needed = ["Name", "MyAddress", "CondorVersion"]
        ads = collector.query(htcondor2.AdType.Schedd, projection=needed)
        if self.name is None and len(ads) == 1:
            return ads[0]
        names = sorted(str(ad["Name"]) for ad in ads)
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        known = f"it knows {', '.join(names[:5])}{more}" if names else "it knows none"
        wanted = f"a schedd {self.name!r}" if self.name else "which schedd is meant"
        raise ScheddError(
            f"the collector {self.pool or 'of this pool'} does not know {wanted}; {known}; "
            "give the name as 'condor_status -schedd' shows it"
        )

    def _what(self) -> str:
        where = f" of the pool {self.pool}" if self.pool else ""
        return f"the schedd {self.name}{where}" if self.name else f"the schedd{where}"

    @contextlib.contextmanager
    def _errors(self, htcondor2: Any, what: str) -> Iterator[None]:
        """Turn what the bindings raise into a ScheddError."""
        start = time.monotonic()
        try:
            yield
        except bindings.failures(htcondor2) as error:
            schedd, self._located = self._located, None  # it may have moved
            at_once = time.monotonic() - start < _AT_ONCE
            if versions.is_refused(htcondor2, error, schedd, self._version, at_once=at_once):
                cause, step = versions.refusal(htcondor2, self._version)
                cause = f"cannot {what}: {self._what()}: {cause}"
                raise ScheddError(cause, step=step) from error
            known = explain_refusal(_text(error))
            if known is not None:
                cause = f"cannot {what}: {self._what()}: {known.cause}"
                raise ScheddError(cause, step=known.step, room=known.room) from error
            was_located = schedd is not None
            raise ScheddError(
                f"cannot {what}: {self._what()}: {_text(error)}; {self._advice(was_located)}"
            ) from error

    def _advice(self, was_located: bool) -> str:
        """Say what to look at."""
        option = f" -pool {self.pool}" if self.pool else ""
        name = f" -name {self.name}" if self.name else ""
        if not (was_located or option or name):
            return f"is HTCondor running here ('condor_q')? If not, {way_to_own_pool()}"
        if was_located:
            return f"is it running, and is this allowed ('condor_q{option}{name}')?"
        return f"does the collector answer ('condor_status{option} -schedd')?"


def _plain_ad(ad: Any, spelling: Mapping[str, str]) -> dict[str, Any]:
    """Return an ad as a dictionary."""
    found = {}
    for name in ad:
        value = _plain(ad, name)
        if value is not None:
            found[spelling.get(name.lower(), name)] = value
    return found


def _plain(ad: Any, name: str) -> Any:
    """Return an attribute's value; None where it is undefined."""
    value = ad[name]
    if type(value).__name__ == "ExprTree":
        text = str(value)
        try:
            value = ad.eval(name)
        except Exception:  # the bindings raise their own types, by version
            return text
        if type(value).__name__ in ("ExprTree", "Value"):
            return text
    return _plain_value(value)


def _plain_value(value: Any) -> Any:
    if value is None or isinstance(value, (bool, str, float)):
        return value
    if type(value).__name__ == "Value":  # classad2.Value.Undefined, .Error
        return None
    if isinstance(value, int):
        return int(value)
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, (list, tuple)):
        return [_plain_value(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain_value(value[key]) for key in value}
    return str(value)


def _text(error: BaseException) -> str:
    """Return an error's text in one line."""
    return " ".join(str(error).split()).rstrip(".;") or type(error).__name__


@contextlib.contextmanager
def _logged_warnings() -> Iterator[None]:
    """Log what the schedd says to a submission, which the bindings tell by ``warnings``."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        log.warning("HTCondor warns: %s", " ".join(str(warning.message).split()))
