"""What a site leaves behind on the machine: nothing, also when it is killed.

It is looked at from outside, so by the machine's own Python, as root:

    python3 tests/site/check_left.py
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

RUN = Path(__file__).with_name("run")
# Of /proc/sys; what HTCondor's own script for the kernel sets is among them.
KEPT = (
    "net/**/*",
    "vm/*",
    "fs/*-max",
    "fs/nr_open",
    "fs/pipe*",
    "kernel/*max*",
    "kernel/keys/*",
)
NEEDED = "site" in os.environ.get("VINE_SHAREDPORT_REQUIRE", "").split(",")


def setUpModule() -> None:
    done = subprocess.run([RUN, "true"], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        if NEEDED:
            raise RuntimeError(done.stderr)
        raise unittest.SkipTest(done.stderr.strip())


def settings() -> dict[str, str]:
    """Return the kernel's settings, but for its counters."""
    found = {}
    for part in KEPT:
        for file in sorted(Path("/proc/sys").glob(part)):
            if file.name.endswith("count"):
                continue
            with contextlib.suppress(OSError):  # some can only be written, or are directories
                found[str(file)] = file.read_text(errors="replace")
    return found


def namespaces() -> set[str]:
    """Return the network namespaces that some process is in."""
    found = set()
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/{entry}/ns/net"))
    return found


def processes_in(spaces: set[str]) -> set[str]:
    """Return the processes in these network namespaces."""
    found = set()
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{entry}/ns/net") in spaces:
                found.add(entry)
    return found


def mounts_and_interfaces() -> set[str]:
    """Return what is mounted for a site, and the interfaces of this machine."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return {line for line in lines if "/site/stage" in line} | set(os.listdir("/sys/class/net"))


class Nothing(unittest.TestCase):
    """A site's namespaces, processes, mounts and settings end with it."""

    def start(self) -> subprocess.Popen[str]:
        """Bring up a site; return when it is, and what runs it."""
        program = (
            "from tests.site.site import Site\n"
            "with Site(installed=False, execute=['nat1']):\n"
            "    print('up', flush=True); input()"
        )
        self.errors = tempfile.TemporaryFile("w+")
        self.addCleanup(self.errors.close)
        child = subprocess.Popen(
            [RUN, "python", "-c", program], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.errors,
        )  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        self.addCleanup(child.stdin.close)
        self.addCleanup(child.stdout.close)
        said = child.stdout.readline()
        self.errors.seek(0)
        self.assertEqual(said, "up\n", self.errors.read())
        return child

    def test_of_it_is_left(self) -> None:
        for end in ("its own end", signal.SIGTERM, signal.SIGKILL):
            with self.subTest(end):
                before, there, spaces = settings(), mounts_and_interfaces(), namespaces()
                child = self.start()
                its = self.spaces_of(child.pid)
                self.assertGreaterEqual(len(its), 8)  # the hosts', and the internet
                self.assertFalse(its & spaces)
                if isinstance(end, str):
                    child.communicate("\n", timeout=60)
                    self.assertEqual(child.returncode, 0)
                else:
                    child.send_signal(end)
                    child.wait(60)
                until = time.monotonic() + 20
                while processes_in(its) and time.monotonic() < until:
                    time.sleep(0.05)
                self.assertEqual(processes_in(its), set())
                self.assertEqual(mounts_and_interfaces(), there)
                after = settings()
                changed = {name for name in before if after.get(name) != before[name]}
                self.assertEqual(changed, set())

    def spaces_of(self, pid: int) -> set[str]:
        """Return the network namespaces of its descendants, but for our own."""
        found = {os.readlink(f"/proc/{pid}/ns/net")}
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in children:
            with contextlib.suppress(OSError):
                found |= self.spaces_of(int(child))
        # HTCondor's daemons have lost their parents, but hosts have their first process here.
        return found - {os.readlink("/proc/self/ns/net")}


if __name__ == "__main__":
    result = unittest.main(verbosity=2, exit=False).result
    sys.exit(0 if result.wasSuccessful() and result.testsRun else 1)
