"""sandbox/run on the host: its exit status, what it leaves behind, and where it still works.

These run outside of the sandbox, so by the host's own Python, without pytest:

    python3 tests/sandbox/check_run.py

They need root, for a process 1 of their own and for hiding parts of /proc. Others skip them,
unless VINE_SHAREDPORT_REQUIRE names "sandbox".
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import struct
import subprocess
import sys
import time
import unittest
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
RUN = str(CHECKOUT / "sandbox" / "run")
METHODS = ("bubblewrap", "bubblewrap-proc", "proot")


def setUpModule() -> None:
    if os.geteuid() != 0:
        reason = "these checks need root"
        if "sandbox" in os.environ.get("VINE_SHAREDPORT_REQUIRE", "").split(","):
            raise RuntimeError(reason)
        raise unittest.SkipTest(reason)
    done = run("true", timeout=900)
    if done.returncode:
        raise RuntimeError(f"there is no sandbox: {done.stderr}")


def run(
    *command: str,
    method: str = "",
    before: tuple[str, ...] = (),
    filtered: Callable[[], None] | None = None,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run COMMAND in the sandbox, as a program without a terminal does."""
    environment = {**os.environ, "VINE_SHAREDPORT_METHOD": method}
    environment.pop("VINE_SHAREDPORT_NATIVE", None)
    return subprocess.run(
        [*before, RUN, *command],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=timeout, check=False, preexec_fn=filtered, cwd=CHECKOUT,
    )  # fmt: skip


def processes_with(word: str) -> list[str]:
    """Return the command lines that have the word, but for zombies, which have none."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            if word in line:
                found.append(line)
    return found


def eventually(condition: Callable[[], bool], seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


# --- a seccomp filter ------------------------------------------------------------------

# seccomp(2), linux/filter.h and linux/seccomp.h; the numbers of x86-64 and of the generic
# table that aarch64 uses (asm/unistd_64.h, asm-generic/unistd.h).
LOAD, JUMP_EQUAL, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
EPERM, ENOSYS = 1, 38
NUMBER, FIRST_ARGUMENT = 0, 16  # offsets in struct seccomp_data
NEW_NAMESPACES = 0x7E020000  # the CLONE_NEW* flags
CALLS = {
    "x86_64": {
        "mount": 165, "umount2": 166, "unshare": 272, "setns": 308, "pivot_root": 155,
        "fsopen": 430, "fsmount": 432, "move_mount": 429, "open_tree": 428,
        "clone": 56, "clone3": 435, "ptrace": 101,
    },
    "aarch64": {
        "mount": 40, "umount2": 39, "unshare": 97, "setns": 268, "pivot_root": 41,
        "fsopen": 430, "fsmount": 432, "move_mount": 429, "open_tree": 428,
        "clone": 220, "clone3": 435, "ptrace": 117,
    },
}  # fmt: skip


def container_filter(*also: str) -> Callable[[], None]:
    """Return what forbids namespaces and mounts in a child, as docker's profile does.

    docker answers EPERM to all of these, but for clone3: it cannot look at its flags, and says
    ENOSYS, so that the C library uses clone.
    """
    numbers = CALLS[os.uname().machine]
    program = [(LOAD, 0, 0, NUMBER)]
    for name, number in numbers.items():
        if name not in ("clone", "clone3", "ptrace") or name in also:
            program += [(JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, ERRNO | EPERM)]
    program += [
        (JUMP_EQUAL, 0, 1, numbers["clone3"]), (RETURN, 0, 0, ERRNO | ENOSYS),
        (JUMP_EQUAL, 0, 3, numbers["clone"]), (LOAD, 0, 0, FIRST_ARGUMENT),
        (JUMP_ANY_BIT, 0, 1, NEW_NAMESPACES), (RETURN, 0, 0, ERRNO | EPERM),
        (RETURN, 0, 0, ALLOW),
    ]  # fmt: skip
    code = b"".join(struct.pack("=HBBI", *step) for step in program)
    libc = ctypes.CDLL(None, use_errno=True)

    def install() -> None:
        buffer = ctypes.create_string_buffer(code)
        array = struct.pack("=H6xQ", len(program), ctypes.addressof(buffer))
        # prctl(PR_SET_NO_NEW_PRIVS, 1), prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &array)
        if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, array, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")

    return install


# --- the promises ----------------------------------------------------------------------


class ExitStatus(unittest.TestCase):
    """It is COMMAND's, whoever is process 1."""

    # A shell that waits is a process 1 that reaps orphans at once.
    LOOP = """
        wrong=0
        for i in $(seq "$1"); do
            "$0" true || wrong=$((wrong + 1))
            "$0" sh -c 'sleep 0.0$1; exit 7' sh "$i"
            [ $? = 7 ] || wrong=$((wrong + 1))
            "$0" sh -c 'kill -KILL $$'
            [ $? = 137 ] || wrong=$((wrong + 1))
        done
        echo "wrong $wrong"
        exit 0
    """

    def count_wrong(self, method: str, rounds: int) -> str:
        done = subprocess.run(
            ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c",
             self.LOOP, RUN, str(rounds)],
            env={**os.environ, "VINE_SHAREDPORT_METHOD": method}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        return done.stdout or done.stderr

    def test_under_a_process_1_that_reaps(self) -> None:
        self.assertEqual(self.count_wrong("", 50), "wrong 0\n")

    def test_by_each_method(self) -> None:
        for method in METHODS[1:]:
            with self.subTest(method):
                self.assertEqual(self.count_wrong(method, 10), "wrong 0\n")

    def test_of_a_command_that_is_not_there(self) -> None:
        for method in METHODS:
            with self.subTest(method):
                self.assertEqual(run("no-such-command", method=method).returncode, 127)

    def test_of_a_command_that_writes_to_nobody(self) -> None:
        for method in METHODS:
            with self.subTest(method):
                program = '"$0" yes | head -n 1; exit "${PIPESTATUS[0]}"'
                done = subprocess.run(
                    ["bash", "-c", program, RUN],
                    env={**os.environ, "VINE_SHAREDPORT_METHOD": method}, cwd=CHECKOUT,
                    stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
                )  # fmt: skip
                self.assertEqual(done.returncode, 128 + signal.SIGPIPE, done.stderr)

    def test_without_a_place_for_messages(self) -> None:
        for method in METHODS:
            with self.subTest(method):
                closing = ("sh", "-c", 'exec "$0" "$@" 2>&-')
                done = run("sh", "-c", "exit 4", method=method, before=closing)
                self.assertEqual(done.returncode, 4)


class Leftovers(unittest.TestCase):
    """What COMMAND leaves behind is ended, also when sandbox/run is killed."""

    def start(self, method: str, program: str) -> tuple[subprocess.Popen[str], str]:
        word = f"leftover-{uuid.uuid4().hex}"
        child = subprocess.Popen(
            [RUN, "sh", "-c", program, word],
            env={**os.environ, "VINE_SHAREDPORT_METHOD": method}, cwd=CHECKOUT, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        self.addCleanup(child.stdout.close)
        return child, word

    SLEEPERS = """
        setsid sh -c 'sleep 600 & sleep 600 & wait' "$0" &
        (sh -c 'trap "" TERM HUP; sleep 600' "$0" &)
    """

    def test_at_commands_end(self) -> None:
        for method in METHODS:
            with self.subTest(method):
                child, word = self.start(method, self.SLEEPERS + "echo; exit 5")
                self.assertEqual(child.wait(60), 5)
                self.assertEqual(processes_with(word), [])

    def test_a_directory_that_cannot_be_written(self) -> None:
        before = set(Path("/tmp").glob("vs.*"))
        program = "mkdir -p /tmp/a/b/c && touch /tmp/a/b/c/d && chmod 0 /tmp/a/b/c /tmp/a/b"
        done = run("sh", "-c", program, method="proot")
        self.assertEqual((done.returncode, set(Path("/tmp").glob("vs.*")) - before), (0, set()))

    def test_at_a_signal(self) -> None:
        for method in METHODS:
            with self.subTest(method):
                program = self.SLEEPERS + "trap 'echo tidied up; exit 9' TERM; echo; wait"
                child, word = self.start(method, program)
                child.stdout.readline()
                child.send_signal(signal.SIGTERM)
                self.assertEqual((child.wait(60), child.stdout.read()), (9, "tidied up\n"))
                self.assertEqual(processes_with(word), [])

    def test_at_a_signal_that_comes_early(self) -> None:
        for method in METHODS:
            for delay in (0.05, 0.15, 0.25, 0.35):
                with self.subTest(method=method, delay=delay):
                    before = set(Path("/tmp").glob("vs.*"))
                    child, word = self.start(method, self.SLEEPERS + "sleep 600")
                    time.sleep(delay)  # wherever it is by then
                    child.send_signal(signal.SIGTERM)
                    self.assertIn(child.wait(60), (-signal.SIGTERM, 128 + signal.SIGTERM))
                    gone = eventually(lambda word=word: not processes_with(word))
                    self.assertTrue(gone, processes_with(word))
                    self.assertEqual(set(Path("/tmp").glob("vs.*")) - before, set())

    def test_when_sandbox_run_is_killed(self) -> None:
        for method in METHODS:
            with self.subTest(method):
                child, word = self.start(method, self.SLEEPERS + "echo; wait")
                child.stdout.readline()
                child.kill()
                child.wait(60)
                gone = eventually(lambda word=word: not processes_with(word))
                self.assertTrue(gone, processes_with(word))


class Containers(unittest.TestCase):
    """It works where a container's restrictions forbid namespaces, and says how."""

    def assert_quickstart(self, done: subprocess.CompletedProcess[str]) -> None:
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"every task came through the shared port\.\n$")

    def test_quickstart_without_namespaces(self) -> None:
        done = run("python", "examples/quickstart.py", filtered=container_filter(), timeout=600)
        self.assert_quickstart(done)
        self.assertIn("using proot", done.stderr.splitlines()[0])
        self.assertIn("--security-opt seccomp=unconfined", done.stderr)

    def test_quickstart_with_a_masked_proc(self) -> None:
        # As docker does, among others; the kernel then lets no user namespace mount a /proc.
        mask = 'mount --bind -o ro /proc/sys /proc/sys && exec "$0" "$@"'
        done = run(
            "python", "examples/quickstart.py", timeout=600,
            before=("unshare", "--mount", "sh", "-c", mask),
        )  # fmt: skip
        self.assert_quickstart(done)
        self.assertIn("COMMAND sees the host's processes", done.stderr.splitlines()[0])

    def test_where_nothing_works_the_way_out_is_told(self) -> None:
        done = run("true", filtered=container_filter("ptrace"))
        self.assertEqual(done.returncode, 125, done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 4, done.stderr)
        for words in (
            "--security-opt seccomp=unconfined --security-opt systempaths=unconfined",
            "VINE_SHAREDPORT_NATIVE=1",
        ):
            self.assertIn(words, done.stderr)

    def test_an_unknown_method_is_refused(self) -> None:
        done = run("true", method="chroot")
        self.assertEqual(done.returncode, 125)
        self.assertTrue(re.search("VINE_SHAREDPORT_METHOD=chroot", done.stderr))


class Secrets(unittest.TestCase):
    """A proxy's password stands on no command line."""

    def test_a_variable_of_the_caller(self) -> None:
        word = f"password{uuid.uuid4().hex}"
        for method in METHODS:
            with self.subTest(method), self.proxy(word):
                program = 'echo "$https_proxy"; cat /proc/*/cmdline 2>/dev/null | tr "\\0" " "'
                done = run("sh", "-c", program, method=method)
                self.assertEqual(done.stdout.count(word), 1, done.stdout)

    def test_variables_that_stay_outside(self) -> None:
        odd = {"FOO-BAR": "outside", "BASH_FUNC_foo%%": "() { :; }", "FOO": "outside"}
        for method in METHODS:
            with self.subTest(method):
                before = ("env", *(f"{name}={value}" for name, value in odd.items()))
                done = run("cat", "/proc/self/environ", method=method, before=before)
                names = {one.partition("=")[0] for one in done.stdout.split("\0")}
                self.assertIn("VINE_SHAREDPORT_SANDBOX", names)
                self.assertFalse(names & {*odd, "CONTAIN_GROUP", "PROOT_TMP_DIR"}, names)

    @contextlib.contextmanager
    def proxy(self, word: str) -> Iterator[None]:
        os.environ["https_proxy"] = f"http://me:{word}@127.0.0.1:9"
        try:
            yield
        finally:
            del os.environ["https_proxy"]


if __name__ == "__main__":
    result = unittest.main(verbosity=2, exit=False).result
    sys.exit(0 if result.wasSuccessful() and result.testsRun else 1)
