"""Look whether this machine has what COMMAND needs without a sandbox.

Prints nothing if it has; else two lines, what is missing and what to do, with exit status 1.

Usage: python3 native.py COMMAND
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import warnings

import vine_sharedport
from vine_sharedport.bundle.worker_program import find_program
from vine_sharedport.condor import bindings
from vine_sharedport.condor.personal_pool import config
from vine_sharedport.errors import SharedPortError
from vine_sharedport.installing import command

OWN = ("python", "vine_sharedport")  # sandbox/run has another name for them
TESTS = ("pytest", "hypothesis", "elftools")


def check(name: str) -> None:
    """Raise what our own programs would, each with its next step."""
    config.find_installation()
    os.environ["CONDOR_CONFIG"] = "ONLY_ENV"  # the bindings shall not look for one
    bindings.load()
    warnings.simplefilter("ignore")  # ndcctools tells that Dask is not installed
    vine_sharedport.Task  # noqa: B018 - imports ndcctools
    find_program("vine_worker", option="PATH=DIRECTORY:$PATH")
    if name == "pytest" and not all(map(importlib.util.find_spec, TESTS)):
        step = command(
            pip="pytest hypothesis pyelftools",
            debian="python3-pytest python3-hypothesis python3-pyelftools",
            conda="pytest hypothesis pyelftools",
        )
        raise SharedPortError(
            f"{sys.executable} has not all of {', '.join(TESTS)}; install them with '{step}'"
        )
    if name not in OWN and not shutil.which(name):
        raise SharedPortError(f"there is no command {name} on PATH; install it")


try:
    check(sys.argv[1])
except SharedPortError as error:
    sys.exit(str(error).replace("; ", "\n", 1))
