"""What the launcher finds, chooses and says; with small programs in the worker's place."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import parallel
from vine_sharedport.bundle import local_worker, shim_build

LAUNCHER = Path(local_worker.launcher_path())
CC = shutil.which("cc") or shutil.which("gcc")

# Tells its arguments and environment as the worker would get them.
_WORKER = r"""
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void told(int number) { _exit(40 + number); }
int main(int count, char **words)
{
    if (count > 1 && !strcmp(words[count - 1], "--version")) {
        puts("vine_worker version 9.8.7");
        return 0;
    }
    for (int i = 1; i < count; i++)
        printf("[%s]", words[i]);
    printf("\nPATH=%s\nLD_PRELOAD=%s\n", getenv("PATH"), getenv("LD_PRELOAD"));
    fflush(stdout);
    for (int i = 1; i < count; i++)
        if (!strcmp(words[i], "--stay")) {
            signal(SIGTERM, told);
            signal(SIGINT, told);
            puts("staying");
            fflush(stdout);
            for (;;)
                pause();
        }
    return 23;
}
"""


@dataclass
class Place:
    """A job's directory on an execute point, with what was sent along."""

    directory: Path
    scratch: Path
    shell: list[str]
    environment: dict[str, str] = field(default_factory=dict)

    def command(self, *words: str) -> list[str]:
        return [*self.shell, str(self.directory / "launcher.sh"), *words]

    def variables(self, **variables: str) -> dict[str, str]:
        bare = {"PATH": os.environ["PATH"], "TMPDIR": str(self.scratch)}
        return {**bare, **self.environment, **variables}

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words), cwd=self.directory, env=self.variables(**variables),
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip

    def options(self, *words: str, **variables: str) -> str:
        """Return what the worker is given, without workspace and the reserved address."""
        ended = self.run(*words, **variables)
        assert ended.returncode == 23, ended.stderr
        first = ended.stdout.splitlines()[0]
        found = re.fullmatch(r"(.*?)(\[-s\]\[.*?\])?\[127\.86\.83\.80\]\[1\]", first)
        assert found, first
        return found[1]


def _compile(source: str, output: Path, *flags: str) -> Path:
    file = output.with_suffix(".c")
    file.write_text(source)
    subprocess.run([str(CC), str(file), "-o", str(output), *flags], check=True)
    file.unlink()
    return output


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the shim and a program in the worker's place."""
    if CC is None:
        pytest.skip("no C compiler")

    def make(place: Path) -> None:
        (place / "programs").mkdir()
        shim_build.build(str(place / "programs" / "libvine_sharedport.so"))
        _compile(_WORKER, place / "programs" / "vine_worker")

    return parallel.made_once(tmp_path_factory, "launcher", make) / "programs"


SHELLS = {"dash": ["dash"], "busybox": ["busybox", "sh"], "bash": ["bash", "--posix"]}


@pytest.fixture(params=SHELLS)
def place(request: pytest.FixtureRequest, programs: Path, tmp_path: Path) -> Iterator[Place]:
    """Return a job's directory, once for each shell."""
    shell = SHELLS[request.param]
    if shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]}")
    directory, scratch = tmp_path / "job", tmp_path / "scratch"
    shutil.copytree(programs, directory)
    scratch.mkdir()
    shutil.copy(LAUNCHER, directory / "launcher.sh")
    (directory / "vine_sharedport.address").write_text("<192.0.2.7:9618?sock=vine_42>\n")
    secret = directory / "vine_sharedport.secret"
    secret.write_bytes(os.urandom(32))
    secret.chmod(0o600)
    return Place(directory, scratch, shell)


def test_the_worker_gets_its_options_and_its_status_is_ours(place: Place) -> None:
    ended = place.run("vine_worker", "--feature", "a 'b' $c *", "-d", "all")
    assert ended.returncode == 23
    (workspace,) = place.scratch.iterdir()
    assert ended.stdout.splitlines()[0] == (
        f"[--feature][a 'b' $c *][-d][all][-s][{workspace}][127.86.83.80][1]"
    )
    (line,) = ended.stderr.splitlines()
    assert "shim, because it loads into ./vine_worker" in line
    assert "9.8.7, manager vine_42, workspace" in line
    assert "LD_PRELOAD=(null)" in ended.stdout


@pytest.mark.parametrize("beside", [True, False])
def test_options_come_from_a_file_as_they_are(
    place: Place, tmp_path: Path, beside: bool
) -> None:
    words = ["vine_worker", "--feature", " a  b\t", "", "-n", "'\"`$(x)$HOME\\n \\", "\u00e9*"]
    directory = place.directory if beside else tmp_path
    (directory / "x.arguments").write_text("\n".join(words))  # no line break at the end
    ended = subprocess.run(
        place.command("@x.arguments"), cwd=directory, env=place.variables(),
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    given = "".join(f"[{word}]" for word in words[1:])
    assert ended.stdout.startswith(f"{given}[-s]["), ended.stderr


def test_a_variable_that_is_none_is_told_and_one_of_ours_is_not(place: Place) -> None:
    ended = place.run("vine_worker", VINE_SHAREDPORT_ADRESS="x", VINE_SHAREDPORT_OWN_POOL="no")
    assert ended.returncode == 23
    assert re.findall("VINE_SHAREDPORT_[A-Z_]+[A-Z]", ended.stderr) == [
        "VINE_SHAREDPORT_ADRESS"
    ]


def test_a_missing_file_of_options_is_named(place: Place) -> None:
    ended = place.run("@x.arguments")
    assert ended.returncode == 78
    assert "the file x.arguments with the worker's options is neither" in ended.stderr


@pytest.mark.parametrize(
    ("words", "left"),
    [
        # vine_factory: behind the program; vine_submit_workers: at the end.
        ("host 9123 -t 900 --parent-death", "[-t][900][--parent-death]"),
        ("host:9123 -t 900", "[-t][900]"),
        ("--parent-death host 9123 -t 900 --cores 1", "[--parent-death][-t][900][--cores][1]"),
        ("--cores 4 -d all --ssl host.example 9123", "[--cores][4][-d][all][--ssl]"),
        ("--cores 4 host.example:9123", "[--cores][4]"),
        ("--ssl host.example:9123", "[--ssl]"),
        ("-M my-project -C catalog:9097", "[-C][catalog:9097]"),
        ("--cores=4 --manager-name my-project", "[--cores=4]"),
        ("-Mproject --single-shot", "[--single-shot]"),
        ("--cores 4 -- host 9123", "[--cores][4]"),
        ("-- host:9123", ""),
        ("--ssl ::1 9123 --cores 4", "[--ssl][--cores][4]"),
        ("fd00::ab 9123", ""),
        ("[::1]:9123", ""),
        # What only looks like an address stays.
        ("-C catalog:9097", "[-C][catalog:9097]"),
        ("--ssl --cores 4", "[--ssl][--cores][4]"),
        ("--transfer-port 9000:9010", "[--transfer-port][9000:9010]"),
        ("", ""),
    ],
)
def test_an_address_among_the_options_gives_way_to_ours(
    place: Place, words: str, left: str
) -> None:
    assert place.options("./vine_worker", *words.split()) == left


def test_without_a_name_the_worker_beside_is_taken(place: Place) -> None:
    assert place.options("--cores", "2") == "[--cores][2]"


def test_a_worker_on_path_is_found(place: Place, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (place.directory / "vine_worker").rename(elsewhere / "my_worker")
    path = f"{elsewhere}:{os.environ['PATH']}"
    assert place.options("my_worker", "-d", "all", PATH=path) == "[-d][all]"


def test_lost_permission_bits_are_given_back(place: Place) -> None:
    (place.directory / "vine_worker").chmod(0o600)
    assert place.options("vine_worker") == ""


def test_where_the_one_that_came_along_does_not_run_the_images_own_does(
    place: Place, tmp_path: Path
) -> None:
    image = tmp_path / "image"
    image.mkdir()
    shutil.move(place.directory / "vine_worker", image / "vine_worker")
    (place.directory / "vine_worker").write_bytes(b"\x7fELF for another machine")
    ended = place.run("vine_worker", PATH=f"{image}:{os.environ['PATH']}")
    assert ended.returncode == 23
    assert f"worker {image}/vine_worker 9.8.7" in ended.stderr


def test_a_missing_library_is_named(place: Place) -> None:
    library = place.directory / "libgone.so"
    _compile("int gone(void) { return 1; }", library, "-shared", "-fPIC")
    _compile(
        "int gone(void); int main(void) { return gone(); }",
        place.directory / "my_worker", str(library),
        "-Wl,--no-as-needed",
    )  # fmt: skip
    library.unlink()
    ended = place.run("my_worker")
    assert ended.returncode == 127
    assert re.search(r"\./my_worker: the library \S*libgone\.so is missing", ended.stderr)
    assert "container image" in ended.stderr


def test_a_missing_version_of_glibc_is_named(place: Place) -> None:
    program = place.directory / "my_worker"
    shutil.copy(place.directory / "vine_worker", program)
    found = re.search(rb"\0GLIBC_2\.(\d\d)\0", program.read_bytes())
    if found is None:
        pytest.skip("the compiler's C library has no two-digit version to change")
    program.write_bytes(
        program.read_bytes().replace(found[0], b"\0GLIBC_9.99\0"[: len(found[0])])
    )
    ended = place.run("my_worker")
    assert ended.returncode == 127
    assert "my_worker: this machine's libc has no GLIBC_9.99" in ended.stderr


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x7fELF of no machine at all", "it cannot be executed here"),
        (b"#!/nonexistent/interpreter\n", "its loader is not on this machine"),
        (b"#!/bin/sh\necho broken >&2; exit 9\n", "its --version ended with status 9: broken"),
    ],
)
def test_a_program_that_does_not_run_is_no_riddle(
    place: Place, content: bytes, says: str
) -> None:
    (place.directory / "my_worker").write_bytes(content)
    ended = place.run("my_worker")
    assert ended.returncode == 127
    # Shells differ in which of the first two they tell.
    assert says in ended.stderr or (b"sh\n" not in content and "my_worker: " in ended.stderr)
    assert "Choose other machines" in ended.stderr


def test_no_program_at_all(place: Place) -> None:
    ended = place.run("my_worker")
    assert (ended.returncode, "there is no my_worker here" in ended.stderr) == (127, True)


def test_a_script_in_the_workers_place_gets_no_preload(place: Place) -> None:
    (place.directory / "my_worker").write_text("#!/bin/sh\necho version 1\n")
    ended = place.run("my_worker", VINE_SHAREDPORT_TRANSPORT="shim")
    assert ended.returncode == 78
    assert "./my_worker is no ELF program" in ended.stderr


def test_the_command_takes_nothing_from_the_present_directory_and_a_job_does(
    place: Place, tmp_path: Path
) -> None:
    """A batch job runs the launcher where it is installed, as the command does."""
    installed = tmp_path / "installed"
    installed.mkdir()
    (place.directory / "launcher.sh").rename(installed / "launcher.sh")
    command = [*place.shell, str(installed / "launcher.sh"), "./vine_worker"]

    (installed / "__main__.py").touch()

    def said(**by: str) -> str:
        return subprocess.run(
            command, cwd=place.directory, env=place.variables(**by), capture_output=True,
            text=True, timeout=30, check=False,
        ).stderr  # fmt: skip

    in_a_job = said()
    assert "it loads into ./vine_worker" in in_a_job
    assert "workspace its own" not in in_a_job
    assert "VINE_SHAREDPORT_ADDRESS" in said(VINE_SHAREDPORT_COMMAND="1")
    (installed / "vine_sharedport.address").write_text("<192.0.2.7:9618?sock=vine_42>\n")
    assert "there is no libvine_sharedport.so" in said(VINE_SHAREDPORT_COMMAND="1")


@pytest.mark.parametrize(
    ("reason", "why"),
    [
        ("gone", "there is no libvine_sharedport.so"),
        ("broken", "the shim does not load into ./vine_worker (ERROR: ld.so: "),
        ("empty", "the shim does not load into ./vine_worker (ERROR: ld.so: "),
        (
            "static",
            "the shim does not load into ./vine_worker (it is static, or the library is",
        ),
    ],
)
def test_where_the_shim_does_not_load_the_relay_is_taken(
    place: Place, reason: str, why: str
) -> None:
    library = place.directory / "libvine_sharedport.so"
    library.unlink()
    if reason == "broken":
        library.write_bytes(b"\x7fELF of another machine")
    if reason == "empty":
        library.touch()
    if reason == "static":
        shim_build.build(str(library))
        _compile(_WORKER, place.directory / "vine_worker", "-static")
    (place.directory / "vine_sharedport.pyz").write_text(
        "import os, sys\nprint(sys.argv[1:], os.environ['VINE_SHAREDPORT_ADDRESS'],"
        " os.environ['VINE_SHAREDPORT_SECRET_FILE'],"
        " os.environ['VINE_SHAREDPORT_CONNECT_TIMEOUT'])\nsys.exit(31)\n"
    )
    ended = place.run("vine_worker", "--timeout=2m")
    assert ended.returncode == 31
    assert "['./vine_worker', '--timeout=2m', '-s', " in ended.stdout
    assert ended.stdout.rstrip().endswith(
        "<192.0.2.7:9618?sock=vine_42> ./vine_sharedport.secret 120"
    )
    assert f"relay, because {why}" in ended.stderr
    assert place.run("vine_worker", VINE_SHAREDPORT_TRANSPORT="shim").returncode == 78


def test_a_path_without_the_programs_it_needs_is_named(place: Place, tmp_path: Path) -> None:
    within = place.shell[0] == "busybox"
    place.shell = [str(shutil.which(place.shell[0])), *place.shell[1:]]
    ended = place.run("vine_worker", PATH="/nonexistent")
    assert (ended.returncode == 78) is not within
    if within:
        return
    (line,) = ended.stderr.splitlines()
    assert "needs date head sed uname, which PATH=/nonexistent" in line


def test_backslashes_in_a_path_stay(place: Place) -> None:
    other = place.directory.with_name("a\\bc")
    place.directory.rename(other)
    place.directory = other
    ended = subprocess.run(
        place.command("vine_worker"), cwd="/", env=place.variables(),
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert ended.returncode == 23, ended.stderr
    assert f"shim, because it loads into {other}/vine_worker;" in ended.stderr


def test_a_place_for_the_workspace_that_cannot_be_used_is_named(place: Place) -> None:
    for variable in ("TMPDIR", "_CONDOR_SCRATCH_DIR"):
        ended = place.run("vine_worker", **{variable: "/nonexistent"})
        assert ended.returncode == 78
        assert "cannot make a directory in /nonexistent; set TMPDIR to" in ended.stderr


def test_what_is_missing_is_named(place: Place) -> None:
    assert "wanted auto, shim or relay" in place.run(VINE_SHAREDPORT_TRANSPORT="tcp").stderr
    (place.directory / "vine_sharedport.address").unlink()
    ended = place.run()
    assert ended.returncode == 78
    assert "set VINE_SHAREDPORT_ADDRESS" in ended.stderr


@pytest.mark.parametrize("content", ["", "\n", "\n<192.0.2.7:9618?sock=a>\n"])
def test_a_file_without_an_address_is_no_address(place: Place, content: str) -> None:
    (place.directory / "vine_sharedport.address").write_text(content)
    ended = place.run()
    assert ended.returncode == 78
    assert "there is no address in the file ./vine_sharedport.address" in ended.stderr


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("vine_sharedport.address", b"<192.0.2.7:9618>\n", "it has no sock= parameter"),
        ("vine_sharedport.secret", b"short", "it has fewer than 32 bytes"),
    ],
)
def test_what_the_shim_could_not_begin_with_is_told_before_the_worker_starts(
    place: Place, name: str, content: bytes, says: str
) -> None:
    (place.directory / name).write_bytes(content)
    ended = place.run("vine_worker")
    assert ended.returncode == 78
    assert says in ended.stderr
    assert list(place.scratch.iterdir()) == []  # no workspace is left


def test_the_launchers_own_question_is_not_put_to_the_worker(place: Place) -> None:
    assert place.options("vine_worker", VINE_SHAREDPORT_CHECK="1") == ""


def test_absurd_times_are_taken_as_they_are_meant(place: Place) -> None:
    assert place.options("vine_worker", "-t", "999999999999") == "[-t][999999999999]"
    assert place.options("vine_worker", PBS_WALLTIME="0100") == "[--wall-time][90]"
    assert place.options("vine_worker", VINE_SHAREDPORT_CONNECT_TIMEOUT="15m") == ""
    ended = place.run("vine_worker", VINE_SHAREDPORT_CONNECT_TIMEOUT="soon")
    assert (ended.returncode, "wanted seconds, or such as 15m" in ended.stderr) == (78, True)


def test_files_beside_the_launcher_go_before_those_of_the_present_directory(
    place: Place, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "vine_worker").write_text("#!/bin/sh\nexit 66\n")
    (elsewhere / "vine_sharedport.address").write_text("<192.0.2.9:1?sock=stranger>\n")
    ended = subprocess.run(
        place.command("vine_worker"), cwd=elsewhere, env=place.variables(),
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert ended.returncode == 23
    assert "manager vine_42" in ended.stderr


@pytest.mark.parametrize(
    ("job", "variables", "at_least", "at_most"),
    [
        ("AllowedExecuteDuration = 3600", {}, 3300, 3300),
        ("AllowedJobDuration = 3600\nJobCurrentStartDate = {now-1000}", {}, 2330, 2341),
        ('JobDurationCategory = "Medium"', {}, 71700, 71700),
        ('JobDurationCategory = "Long"\nAllowedExecuteDuration = 50', {}, 45, 45),
        ("AllowedJobDuration = 60 * 60", {}, None, None),
        ("JobLeaseDuration = 2400", {}, None, None),
        ("", {"SLURM_JOB_END_TIME": "{now+1000}"}, 890, 901),
        ("", {"PBS_WALLTIME": "100"}, 90, 90),
    ],
)
def test_the_worker_leaves_before_its_job_is_stopped(
    place: Place, job: str, variables: dict[str, str], at_least: int, at_most: int
) -> None:
    def at_present(text: str) -> str:
        return re.sub(r"\{now([-+]\d+)\}", lambda m: str(int(time.time()) + int(m[1])), text)

    ad = place.directory / ".job.ad"
    ad.write_text(at_present(job) + "\n")
    variables = {name: at_present(value) for name, value in variables.items()}
    options = place.options("vine_worker", _CONDOR_JOB_AD=str(ad), **variables)
    found = re.fullmatch(r"(?:\[--wall-time\]\[(\d+)\])?", options)
    assert found, options
    if at_least is None:
        assert found[1] is None
    else:
        assert at_least <= int(found[1]) <= at_most
    kept = place.options("vine_worker", "--wall-time", "7", _CONDOR_JOB_AD=str(ad), **variables)
    assert kept == "[--wall-time][7]"


def test_the_users_own_workspace_is_kept(place: Place) -> None:
    ended = place.run("vine_worker", "-s", "/some/where")
    assert ended.stdout.startswith("[-s][/some/where][127.86.83.80]")
    assert list(place.scratch.iterdir()) == []


def test_ipv6_mode_gets_the_reserved_address_in_its_own_form(place: Place) -> None:
    ended = place.run("vine_worker", CCTOOLS_IP_MODE="IPV6")
    assert "[::ffff:127.86.83.80][1]" in ended.stdout


def _environment(place: Place) -> Path:
    """Make a tarball as conda-pack does, with a worker in it."""
    root = place.directory / "env"
    (root / "bin").mkdir(parents=True)
    shutil.move(place.directory / "vine_worker", root / "bin" / "vine_worker")
    (root / "bin" / "activate").write_text("ACTIVATED=yes; export ACTIVATED\n")
    unpack = root / "bin" / "conda-unpack"
    unpack.write_text('#!/bin/sh\ntouch "$CONDA_PREFIX/unpacked"; echo unpacked "$ACTIVATED"\n')
    unpack.chmod(0o755)
    tarball = place.directory / "env.tar.gz"
    with tarfile.open(tarball, "w:gz") as archive:
        archive.add(root, ".")
    shutil.rmtree(root)
    return tarball


def test_a_python_environment_is_unpacked_and_used(place: Place) -> None:
    tarball = _environment(place)
    job = place.scratch / "job"
    job.mkdir()
    ended = place.run(
        "vine_worker", VINE_SHAREDPORT_PYTHON_ENV=str(tarball), _CONDOR_SCRATCH_DIR=str(job)
    )
    assert ended.returncode == 23, ended.stderr
    (unpacked,) = job.glob("environment-*")  # HTCondor removes it with the job
    assert (unpacked / "unpacked").exists()
    assert f"PATH={unpacked}/bin:" in ended.stdout
    assert "unpacked yes" in ended.stderr
    outside = place.run("vine_worker", VINE_SHAREDPORT_PYTHON_ENV=str(tarball))
    assert outside.returncode == 23
    assert list(place.scratch.glob("environment-*")) == []


def test_what_is_no_python_environment_is_refused(place: Place, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(b"no archive")
    for path in (broken, tmp_path / "absent.tar.gz"):
        ended = place.run("vine_worker", VINE_SHAREDPORT_PYTHON_ENV=str(path))
        assert ended.returncode == 78
        assert str(path) in ended.stderr
    tarball = _environment(place)
    tarball.write_bytes(tarball.read_bytes()[:-100])
    ended = place.run("vine_worker", VINE_SHAREDPORT_PYTHON_ENV=str(tarball))
    assert ended.returncode == 78
    # And not tar's last words, that it has failed before.
    assert re.search(
        r"cannot unpack .*(unexpected end|invalid tar magic).*; send it again", ended.stderr
    )
    assert list(place.scratch.glob("environment-*")) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("in_environment", [False, True])
def test_signals_reach_the_worker(place: Place, number: int, in_environment: bool) -> None:
    variables = {}
    if in_environment:  # then the launcher stays, to clean up
        variables["VINE_SHAREDPORT_PYTHON_ENV"] = str(_environment(place))
    process = subprocess.Popen(
        place.command("vine_worker", "--stay"), cwd=place.directory,
        env=place.variables(**variables), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        while process.stdout.readline().strip() != b"staying":
            assert process.poll() is None
        name = Path(f"/proc/{process.pid}/comm").read_text().strip()
        assert (name == "vine_worker") is not in_environment
        process.send_signal(number)
        # Where the launcher stays it has to be SIGTERM: INT is ignored in the background.
        wanted = signal.SIGTERM if in_environment else number
        assert process.wait(10) == 40 + wanted
    assert list(place.scratch.glob("environment-*")) == []


def _stub(place: Place, **programs: str) -> dict[str, str]:
    """Return the PATH on which these say so instead of the real ones."""
    directory = place.scratch / "stubs"
    directory.mkdir()
    for name, said in programs.items():
        (directory / name).write_text(f"#!/bin/sh\n{said}\n")
        (directory / name).chmod(0o755)
    return {"PATH": f"{directory}:{os.environ['PATH']}"}


def _own_address(place: Place, *words: str, **variables: str) -> str:
    found = re.fullmatch(
        r"\[--cores\]\[2\]\[--contact-hostport\]\[(.*)\]",
        place.options("vine_worker", *words, "--cores", "2", **variables),
    )
    assert found
    return found[1]


OWN = [["--contact-hostport", "auto"], ["--contact-hostport=auto"]]


@pytest.mark.parametrize("words", OWN)
def test_other_workers_are_told_the_address_on_the_way_to_the_manager(
    place: Place, words: list[str]
) -> None:
    octets = [random.randrange(1, 255) for _ in range(2)]
    there = random.choice([f"127.1.{octets[0]}.{octets[1]}", f"198.18.{octets[0]}.{octets[1]}"])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((there, 9))  # sends nothing
        except OSError:
            there = "127.0.0.1"
            probe.connect((there, 9))
        expected = probe.getsockname()[0]
    for address in (
        f"<{there}:9618?sock=vine_42>",
        f"<[fd77::1]:9618?addrs=[fd77--1]-9618+{there}-9618&alias=h&sock=vine_42>",
    ):
        variables = {"VINE_SHAREDPORT_ADDRESS": address}
        assert _own_address(place, *words, **variables) == expected, address


@pytest.mark.parametrize(
    ("ad", "listed", "expected"),
    [
        ('MyAddress = "<10.1.2.3:9618?addrs=10.1.2.3-9618>"', "10.9.9.9", "10.1.2.3"),
        ('MyAddress = "<[fd77::5]:9618>"', "fd77::5 10.9.9.9 10.8.8.8 ", "10.9.9.9"),
        ('Machine = "host"', "fd77::5", os.uname().nodename),
        ("", "", os.uname().nodename),
    ],
)
def test_where_there_is_no_route_the_machine_is_asked(
    place: Place, ad: str, listed: str, expected: str
) -> None:
    if place.shell[0] == "busybox":
        pytest.skip("it runs an ip and a hostname of its own")
    (place.scratch / "machine.ad").write_text(f"{ad}\n")
    path = _stub(place, ip="exit 2", hostname=f"echo '{listed}'")
    given = {"_CONDOR_MACHINE_AD": str(place.scratch / "machine.ad"), **path}
    assert _own_address(place, *OWN[0], **given) == expected


@pytest.mark.parametrize(
    "value", ["auto.example.org:1094", "10.0.0.9:80", ":4000", "[fd77::1]:9"]
)
def test_an_address_for_other_workers_that_is_given_stays(place: Place, value: str) -> None:
    words = ["--contact-hostport", value, "--cores", "2"]
    assert place.options("vine_worker", *words) == "".join(f"[{word}]" for word in words)
