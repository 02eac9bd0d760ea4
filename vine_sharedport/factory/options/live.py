"""The options that hold now: files that change while the factory runs."""

from __future__ import annotations

import logging
import os
from typing import Any

from vine_sharedport.errors import SettingError
from vine_sharedport.factory.options import config_file
from vine_sharedport.factory.options.schema import CHANGEABLE, Options
from vine_sharedport.factory.options.stored import read_config
from vine_sharedport.factory.report import paths

__all__ = ["LiveOptions"]

log = logging.getLogger(__name__)


class LiveOptions:
    """A factory's options, read again when their files change.

    Args:
        directory: The factory's; has its configuration.
        must_begin: There may be jobs to see to, with whatever options.

    Attributes:
        now: What holds.
        error: What is wrong with a file; the options are then as they were.
        are_known: Whether there were good ones yet.

    Raises:
        SettingError: The configuration cannot be used, and need not.
    """

    def __init__(self, directory: str, *, must_begin: bool = False) -> None:
        self.error: str | None = None
        self._directory = directory
        self._path = os.path.join(directory, paths.CONFIG)
        self._base = self.now = Options()
        self._marks: tuple[Any, ...] = ()
        try:
            mark = _mark(self._path)  # before it is read: later changes are to be seen
            self._base = self.now = read_config(self._path)
            self._marks = (mark, _mark(self._base.config_file))
            self.now = self._with_user_config(self._base)
            config_file.keep(self.now, directory)
        except SettingError as error:
            if not must_begin:
                raise
            self.error = str(error)
            log.error("%s", error)
        self.are_known = self.error is None

    def follow(self) -> bool:
        """Read the files again if they have changed; return whether they have."""
        marks = self._look()
        if marks == self._marks:
            return False
        self._marks = marks
        before = self.now
        try:
            base = read_config(self._path)
            # Not to be changed while it runs; what the API writes is checked there.
            wanted = {name: getattr(base, name) for name in CHANGEABLE}
            base = Options.make(wanted, base=self._base, running=True)
            self.now = self._with_user_config(base)
            self._base = base
            config_file.keep(self.now, self._directory)
            self.error = None
            self.are_known = True
        except SettingError as error:
            self.error = str(error)
            log.warning("the options stay as they were: %s", error)
            return True
        for name in sorted(CHANGEABLE):
            old, new = getattr(before, name), getattr(self.now, name)
            if old != new:
                log.info("option %s changed from %r to %r", name, old, new)
        return True

    @staticmethod
    def _with_user_config(base: Options) -> Options:
        if base.config_file is None:
            return base
        return read_config(base.config_file, base=base, running=True)

    def _look(self) -> tuple[Any, ...]:
        """Return what shows that a file was changed."""
        return _mark(self._path), _mark(self._base.config_file)


def _mark(path: str | None) -> Any:
    try:
        found = os.stat(path) if path else None
    except OSError:
        return None
    return found and (found.st_mtime_ns, found.st_ino, found.st_size)
