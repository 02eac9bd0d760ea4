"""Jobs of a factory that was killed, for another manager than the one that it serves now.

A manager's name leads to another address when its program is started again. What was
submitted for the former one finds nobody, and would count as workers of the new one. But
one that lives keeps its workers: a name may lead elsewhere in another directory.
"""

from __future__ import annotations

import logging
import os

from vine_sharedport.dialing import dial
from vine_sharedport.dialing.race import verdict_of
from vine_sharedport.errors import SharedPortError, Verdict
from vine_sharedport.factory.jobs.queue import Queue
from vine_sharedport.factory.options.stored import read_config
from vine_sharedport.factory.report import paths
from vine_sharedport.factory.submission.location import Place
from vine_sharedport.wire.sinful import Sinful

__all__ = ["remove_former"]

log = logging.getLogger(__name__)

# Seconds for the former manager to answer, if it is there.
_TIMEOUT = 5.0


def remove_former(directory: str) -> None:
    """Remove such jobs of a factory's directory, absolute, with one attempt."""
    try:
        kept = Place.read(directory)
        if kept is None:
            return
        options = read_config(os.path.join(directory, paths.CONFIG))
        if options.address is None or options.reference.sock_id == kept.manager:
            return
        queue = Queue(directory, factory=paths.factory_id(directory), place=kept)
        if sum(queue.count_left()) == 0:
            return
        if not _has_gone(options.reference.address.with_sock(kept.manager)):
            log.warning(
                "jobs were left here for another manager, %s, which may still need them; give "
                "this factory a directory of its own (directory, --directory)", kept.manager,
            )  # fmt: skip
            return
        queue.remove_all("their factory serves another manager now")
        log.warning("removed what was left here for another manager, %s", kept.manager)
    except SharedPortError as error:
        log.warning("there may be jobs left for another manager: %s", error)


def _has_gone(address: Sinful) -> bool:
    """Whether the shared port is there and has nobody of that name."""
    try:
        dial.connect(address, timeout=_TIMEOUT, check=True).close()
    except SharedPortError as error:
        return verdict_of(error) is Verdict.NOBODY_THERE
    return False
