"""The preload library that takes an unmodified worker through the shared port.

The C files of ``shim/`` are compiled when the package is installed. The library travels with
every job to machines that have no compiler and some other C library, so it is linked against
none. Without it workers use the relay, which needs Python on the execute point.
"""

from __future__ import annotations

import functools
import logging
import os
import shlex
import shutil
import subprocess
import tempfile

from vine_sharedport.atomic_file import write_atomically
from vine_sharedport.errors import LaunchError, SettingError

__all__ = [
    "FLAGS",
    "LIBRARY",
    "RESERVED_HOST",
    "RESERVED_PORT",
    "build",
    "library_path",
    "sources",
    "warn_of_relay",
]

log = logging.getLogger(__name__)

RESERVED_HOST = "127.86.83.80"
"""Address that the library watches for: "VSP" in ASCII, and loopback, so that without the
library the connection is refused at once and never leaves the machine."""

RESERVED_PORT = 1
"""Port that the library watches for."""

LIBRARY = "libvine_sharedport.so"
"""The library's file name, beside ``launcher.sh``, and its name among loaded libraries."""

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_SOURCES = os.path.join(_PACKAGE, "shim")
_COMPILERS = ("gcc", "cc", "clang")

# The library runs on other machines than the one that compiles it: the oldest processor of
# the architecture (some distributions' compilers default to newer ones: RHEL 10 to v3).
_OLDEST_PROCESSOR = {"x86_64": ["-march=x86-64"], "aarch64": ["-march=armv8-a"]}

FLAGS = [
    "-std=gnu11",
    "-O2",
    "-shared",
    "-fPIC",
    # No libc: none is linked, and the compiler may not think that functions which bear the
    # names of a libc's do what a libc's do.
    "-nostdlib",
    "-ffreestanding",
    # connect() alone is seen from outside; the rest must not be mistaken for the worker's.
    "-fvisibility=hidden",
    # Ubuntu's and others' defaults, which call into libc: __stack_chk_fail, __memcpy_chk.
    "-fno-stack-protector",
    "-U_FORTIFY_SOURCE",
    # Or the loops in our memcpy() and memset() become calls of memcpy() and memset().
    "-fno-tree-loop-distribute-patterns",
    # sockaddr_in, sockaddr_in6 and sockaddr are read as one another.
    "-fno-strict-aliasing",
    # The same bytes from the same compiler, wherever the sources lie.
    "-fno-ident",
    "-Wl,--build-id=none",
    f"-Wl,-soname,{LIBRARY}",
    # SELinux refuses libraries that want an executable stack.
    "-Wl,-z,noexecstack",
    # Names are looked up once, when the library is loaded; afterwards its tables are
    # read-only. A weak name that the process lacks is then NULL.
    "-Wl,-z,relro",
    "-Wl,-z,now",
    # A forgotten libc function is an error here and not on the execute point. Weak
    # references remain allowed.
    "-Wl,-z,defs",
    # So is code that cannot be mapped as it is.
    "-Wl,-z,text",
    # The old table of names too, for C libraries that know no other.
    "-Wl,--hash-style=both",
]
"""The compiler's options, for every compiler and processor."""


def library_path() -> str | None:
    """Return the library's path; None when the installation had no compiler."""
    path = os.path.join(_PACKAGE, "worker", LIBRARY)
    return path if os.path.isfile(path) else None


@functools.cache  # once in a process: a factory submits again and again
def warn_of_relay() -> None:
    """Warn that workers have nothing but the relay: pip hides what the build has said."""
    log.warning(
        "this installation has no %s, as it had no C compiler: workers use the relay, which "
        "needs Python 3.9 or later on the execute point. To change that, install gcc and "
        "reinstall with 'pip install --force-reinstall --no-deps --no-cache-dir ...'",
        LIBRARY,
    )


def sources() -> list[str]:
    """Return the paths of the C files and headers; none in a package that is one file."""
    names = sorted(os.listdir(_SOURCES)) if os.path.isdir(_SOURCES) else []
    return [os.path.join(_SOURCES, name) for name in names if name.endswith((".c", ".h"))]


def build(output: str, *, compiler: str | None = None) -> None:
    """Compile the library.

    The file appears when it is complete, so processes that have an older one loaded keep
    that, and two builds at once do not disturb each other.

    Args:
        output: File to write.
        compiler: Command, with options if it needs some, such as ``aarch64-linux-gnu-gcc``;
            by default what the variable ``CC`` names, else gcc, cc or clang.

    Raises:
        SettingError: There is no compiler.
        LaunchError: It fails; the message has its output.
    """
    command = _compiler(compiler)
    folder = os.path.dirname(os.path.abspath(output))
    machine = _run([*command, "-dumpmachine"]).strip().partition("-")[0]
    flags = [*_OLDEST_PROCESSOR.get(machine, []), *FLAGS]
    files = [path for path in sources() if path.endswith(".c")]
    try:
        with tempfile.TemporaryDirectory() as scratch:
            made = os.path.join(scratch, LIBRARY)
            _run([*command, *flags, "-o", made, *files])
            with open(made, "rb") as file:
                write_atomically(output, file.read(), mode=0o755)
    except OSError as error:
        raise SettingError(
            f"cannot write {output}: {error.strerror}; make {folder} writable"
        ) from error


def _compiler(wanted: str | None) -> list[str]:
    """Return the command of the compiler to use."""
    wanted = wanted or os.environ.get("CC")
    if wanted:
        command = shlex.split(wanted)
        if command and shutil.which(command[0]):
            return command
        raise SettingError(
            f"there is no C compiler {wanted!r}; install it, or name another one in the "
            "variable CC"
        )
    for name in _COMPILERS:
        if shutil.which(name):
            return [name]
    raise SettingError(
        f"there is no C compiler: none of {', '.join(_COMPILERS)} is on PATH; install gcc, or "
        "name one in the variable CC"
    )


def _run(command: list[str]) -> str:
    """Run the compiler and return what it prints."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise LaunchError(
            f"cannot run the C compiler {command[0]}: {error.strerror}; install another one, "
            "or name one in the variable CC"
        ) from error
    if done.returncode != 0:
        raise LaunchError(
            f"the C compiler failed with status {done.returncode}: {shlex.join(command)}\n"
            f"{done.stdout.rstrip()}"
        )
    return done.stdout
