"""A schedd as the factory knows it: jobs, and constraints that HTCondor itself evaluates."""

from __future__ import annotations

import time
from typing import Any

import pytest

from vine_sharedport.condor.personal_pool.user import owner
from vine_sharedport.errors import ScheddError
from vine_sharedport.factory.jobs.description import FACTORY_ATTRIBUTE, MANAGER_ATTRIBUTE

CLUSTER = 7  # of jobs that were not submitted by a test


class FakeSchedd:
    """Stands in for ``pool.schedd.Schedd``.

    Attributes:
        factory: Whose jobs are submitted.
        manager: And for which manager, by its sock id.
        ads: The jobs.
        owner: What it calls us.
        error: What it answers to everything; a submission is taken all the same.
        calls: The questions and actions, by their names.
        edits: The changes: attribute and value.
        done: The actions.
    """

    def __init__(self, factory: str, manager: str) -> None:
        self.factory = factory
        self.manager = manager
        self.ads: list[dict[str, Any]] = []
        self.owner = owner()
        self.error: str | None = None
        self.calls: list[str] = []
        self.edits: list[tuple[str, Any]] = []
        self.done: list[str] = []
        self._clusters = CLUSTER

    def add(self, status: int = 1, **values: Any) -> dict[str, Any]:
        """Have one more job."""
        now = int(time.time())
        ad = {"ClusterId": CLUSTER, "ProcId": len(self.ads), "JobStatus": status, "QDate": now,
              "EnteredCurrentStatus": now, FACTORY_ATTRIBUTE: self.factory,
              MANAGER_ATTRIBUTE: self.manager, "Owner": self.owner, **values}  # fmt: skip
        self.ads.append(ad)
        return ad

    def submit(self, _: Any, count: int, **options: Any) -> int:
        self._clusters += 1
        for proc in range(count):
            self.add(ClusterId=self._clusters, ProcId=proc)
        self._answer("submit")
        return self._clusters

    def query(self, constraint: str, *_: Any) -> list[dict[str, Any]]:
        self._answer("query")
        found = [dict(ad) for ad in self._where(constraint)]
        # What is being removed is gone the next time.
        self.ads = [ad for ad in self.ads if ad["JobStatus"] != 3]
        return found

    def edit(self, constraint: str, attribute: str, value: Any) -> int:
        self._answer("edit")
        found = self._where(constraint)
        if any(ad["Owner"] != self.owner for ad in found):
            raise ScheddError("they are another user's")
        for ad in found:
            self.edits.append((attribute, value))
            ad[attribute] = value
        return len(found)

    def act(self, action: str, constraint: str, *_: Any) -> int:
        self._answer("act")
        found = self._where(constraint)
        ours = [ad for ad in found if ad["Owner"] == self.owner]
        if ours:
            self.done.append(action)
        for ad in ours:
            ad["JobStatus"] = {"remove": 3, "release": 1}[action]
        if denied := len(found) - len(ours):
            raise ScheddError("they are another user's", denied=denied)
        return len(ours)

    def _answer(self, call: str) -> None:
        self.calls.append(call)
        if self.error is not None:
            raise ScheddError(self.error)

    def _where(self, constraint: str) -> list[dict[str, Any]]:
        return [ad for ad in self.ads if evaluate(constraint, ad) is True]


def evaluate(expression: str, ad: dict[str, Any]) -> Any:
    """Return what a ClassAd expression is for a job."""
    classad2 = pytest.importorskip("classad2")
    whole = classad2.ClassAd(ad)
    whole["TheExpression"] = classad2.ExprTree(expression)
    return whole.eval("TheExpression")


class AbsentSchedd:
    """A schedd that does nothing of what it is asked."""

    calls = 0

    def query(self, *_: Any) -> Any:
        self.calls += 1
        raise ScheddError("the schedd is not there")

    act = query
