"""Compile the worker's preload library when the package is built; pyproject.toml has the rest.

Without a compiler the package is built all the same, and workers use the relay.
"""

from __future__ import annotations

import logging
import os
import sys

from setuptools import Command, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from vine_sharedport.bundle import shim_build
from vine_sharedport.errors import LaunchError, SharedPortError

PACKAGE = "vine_sharedport.worker"

# pip shows this with -v only; the documentation and "vine_sharedport worker" say it, too.
# --no-cache-dir: pip keeps the wheels that it has built, also those without the library.
WITHOUT_LIBRARY = """\
{error}
vine_sharedport is built without its preload library: workers will use the relay, which needs
Python 3.9 on the execute point. To change that, install gcc and reinstall with
    pip install --force-reinstall --no-deps --no-cache-dir ...
"""


class BuildShim(Command):
    """Compile the library, into the package's place in the build or, editable, its own."""

    description = "compile the preload library of the worker"
    user_options = []  # noqa: RUF012 (setuptools wants a list of the class)
    editable_mode = False

    def initialize_options(self) -> None:
        """Start without a place."""
        self.build_lib = None
        self.built = False

    def finalize_options(self) -> None:
        """Take the place that the whole build has."""
        self.set_undefined_options("build", ("build_lib", "build_lib"))

    def run(self) -> None:
        """Compile; without success, leave no older library in place of the new one."""
        output = self._in_source() if self.editable_mode else self._in_build()
        os.makedirs(os.path.dirname(output), exist_ok=True)
        if os.path.exists(output):
            os.unlink(output)
        try:
            if not sys.platform.startswith("linux"):
                raise LaunchError(f"the preload library is for Linux, this is {sys.platform}")
            shim_build.build(output)
        except SharedPortError as error:
            logging.getLogger(__name__).warning(WITHOUT_LIBRARY.format(error=error))
        else:
            self.built = True

    def get_outputs(self) -> list[str]:
        """Return what is installed."""
        return [self._in_build()] if self.built else []

    def get_output_mapping(self) -> dict[str, str]:
        """Return where an editable installation finds what would be installed."""
        return {self._in_build(): self._in_source()} if self.built else {}

    def get_source_files(self) -> list[str]:
        """Return what a source distribution must have."""
        here = os.path.dirname(os.path.abspath(__file__))
        return [os.path.relpath(path, here) for path in shim_build.sources()]

    def _in_build(self) -> str:
        return os.path.join(self.build_lib, *PACKAGE.split("."), shim_build.LIBRARY)

    def _in_source(self) -> str:
        package = self.get_finalized_command("build_py").get_package_dir(PACKAGE)
        return os.path.join(package, shim_build.LIBRARY)


class Wheel(bdist_wheel):
    """A wheel for one architecture if the library is in it, and for every Python always."""

    def get_tag(self) -> tuple[str, str, str]:
        """Return the tags, of what has been built by now."""
        self.root_is_pure = not self.get_finalized_command("build_shim").built
        return "py3", "none", "any" if self.root_is_pure else super().get_tag()[2]


build.sub_commands = [*build.sub_commands, ("build_shim", None)]
setup(cmdclass={"build_shim": BuildShim, "bdist_wheel": Wheel})
