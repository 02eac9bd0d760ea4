"""C calls with Python code before or after them that signals and threads cannot upset.

**Signals.** A signal's Python handler runs between two instructions of whatever Python
code the main thread is in, the first instruction of a function included, which is
outside any ``try`` block in it. What the handler raises, such as KeyboardInterrupt,
would leave the callback, and C would take a leftover number for the answer. So a
callback is a C object all the way: a ctypes function with a *suspended generator*
behind one of its conversions. A generator is resumed inside its ``try`` block. What it
catches stays in ``deferred`` until the C call has returned to Python.

**Threads.** They take turns at the same instructions, and a running generator cannot be
entered a second time. So every thread has its own.
"""

from __future__ import annotations

import itertools
import operator
import threading
from collections.abc import Generator, Iterable
from types import SimpleNamespace
from typing import Any, Callable

from vine_sharedport.hook import _libc

__all__ = ["PerThread", "answer_with", "deferred", "redirect", "store"]

deferred: list[BaseException] = []
"""What signals' handlers have raised in callbacks, the oldest first."""

# As many signals may be pending at once, each with a handler that raises.
_DEPTH = 8


def answer_with(
    handle: Callable[[int], int], otherwise: Callable[[], int]
) -> Callable[[int], int]:
    """Return a C-callable of one number whose Python code runs inside a try block.

    Args:
        handle: Maps the number to the answer.
        otherwise: Gives the answer when something was raised on the way, perhaps before
            ``handle`` was called. Itself called again when it is interrupted.
    """
    generator = _answers(handle, otherwise, _DEPTH)
    next(generator)
    return generator.send


def _answers(
    handle: Callable[[int], int], otherwise: Callable[[], int], depth: int
) -> Generator[int, int, None]:
    while True:
        try:
            if depth:
                # Its ``except`` block and its way back to ``try`` are inside this ``try``.
                yield from _answers(handle, otherwise, depth - 1)
            answer = otherwise()
            while True:
                answer = handle((yield answer))
        except GeneratorExit:
            return
        except BaseException as error:  # KeyboardInterrupt included
            deferred.append(error)


def store(answers: list[int], wanted: Callable[[Any], Any], function: Any, *args: Any) -> None:
    """Append to ``answers`` what ``function(*args)`` returns, if it is ``wanted``.

    In C to the end: no handler runs between the call's return and the list, where the
    only copy of a descriptor would be lost.
    """
    results: Iterable[int] = itertools.starmap(function, (args,))
    answers.extend(filter(wanted, results))


def redirect(
    function: Any,
    *,
    first_argument: Callable[[int], int] | None = None,
    result: Callable[[int], int] | None = None,
) -> Any:
    """Return a C-callable: a C function between two conversions of ours.

    ctypes converts the first argument by ``first_argument``, calls the function and
    hands its number to ``result``, all without a Python frame of its own.
    """
    wrapped = type(function)(_libc.address_of(function))
    if first_argument is not None:
        wrapped.argtypes = [SimpleNamespace(from_param=first_argument), *wrapped.argtypes[1:]]
    if result is not None:
        wrapped.restype = result
    return wrapped


class PerThread(threading.local):
    """A callback of which each thread has its own, made by ``make()`` on its first call."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._own = make()

    # A property of a C function, so that finding the thread's own runs no Python code.
    __call__ = property(operator.attrgetter("_own"))
