"""What is refused is not submitted unchanged in each cycle, and logged once."""

from __future__ import annotations

from vine_sharedport.factory.submission.refusal_backoff import RefusalBackoff


def test_pauses_grow_to_five_minutes() -> None:
    backoff = RefusalBackoff()
    pauses = []
    now = 100.0
    for _ in range(7):
        backoff.refused("no", "jobs", now)
        pauses.append(backoff.pause("jobs", now))
        now += pauses[-1]
        assert backoff.pause("jobs", now) == 0.0
    assert pauses == [15, 30, 60, 120, 240, 300, 300]
    backoff.accepted(1)
    backoff.refused("no", "jobs", now)
    assert backoff.pause("jobs", now) == 15


def test_other_jobs_are_tried_at_once() -> None:
    backoff = RefusalBackoff()
    backoff.refused("no", ("recipe", 3), 1.0)
    assert backoff.pause(("recipe", 3), 2.0) > 0
    assert backoff.pause(("another", 3), 2.0) == 0
    assert backoff.pause(("recipe", 2), 2.0) == 0, "a job has ended, and left its place"


def test_what_differs_by_numbers_alone_is_told_once() -> None:
    backoff = RefusalBackoff()
    assert backoff.refused("cluster 17: no", "jobs", 1.0)
    assert not backoff.refused("cluster 18: no", "jobs", 20.0)
    assert backoff.refused("cluster 18: full", "jobs", 60.0)
    backoff.accepted(1)
    assert backoff.refused("cluster 19: full", "jobs", 90.0)


def test_a_limit_is_kept_to_and_tried_again_after_a_while() -> None:
    backoff = RefusalBackoff()
    backoff.most = 3
    backoff.accepted(2)
    assert backoff.most == 3
    backoff.accepted(3)
    assert backoff.most == 6
