"""HTCondor's reasons for holding a job, as it really wrote them, and what we make of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vine_sharedport.factory.jobs.hold_causes import explain_hold, is_hold

# What jobs got in a personal pool: (code, subcode, reason), and the version that wrote it.
# Both versions use the same words unless there are two lines.
_INPUT = "Transfer input files failure at access point localhost while sending files to execution point slot1_2@localhost. Details: "  # noqa: E501
_SENT = "Transfer output files failure at execution point slot1_5@localhost while sending files to access point localhost. Details: "  # noqa: E501
_RECEIVED = "Transfer output files failure at access point localhost while receiving files from execution point slot1_6@localhost. Details: "  # noqa: E501
_NO_FILE = "(errno 2) No such file or directory"
_FIRST = "1 total failures: first failure: "
REAL = [
    ("missing_input", 13, 2, "23.9.6", f"{_INPUT}reading from file /tmp/x/nothing: {_NO_FILE}"),
    ("missing_input", 13, 2, "25.14.1",
     f"{_INPUT}{_FIRST}reading from file /tmp/x/nothing: {_NO_FILE}"),
    ("missing_executable", 13, 2, "23.9.6",
     f"{_INPUT}reading from file /tmp/x/program: {_NO_FILE}"),
    ("missing_executable", 13, 2, "25.14.1",
     f"{_INPUT}{_FIRST}reading from file /tmp/x/program: {_NO_FILE}"),
    ("not_executable", 6, 2, "both",
     "Error from slot1_4@localhost: Failed to execute '/tmp/vine-pool-pqd8sha7/execute/dir_55/"
     "bad' with arguments 1: invalid interpreter (/nonexistent/interp) specified on first line "
     "of script (errno=2: 'No such file or directory')"),
    ("missing_output", 12, 2, "23.9.6",
     f"{_SENT}reading from file /tmp/vine-pool-pqd8sha7/execute/dir_58/never: {_NO_FILE}"),
    ("missing_output", 12, 2, "25.14.1",
     f"{_SENT}{_FIRST}reading from file /tmp/vine-pool-i85r6tel/execute/dir_74/scratch/never: "
     f"{_NO_FILE}"),
    ("output_directory", 12, 2, "both",
     f"{_RECEIVED}writing to file /nonexistent/dir/o: {_NO_FILE}"),
    ("directory", 14, 2, "both",
     "Cannot access initial working directory /tmp/x/iwd: No such file or directory"),
    ("wall_time", 47, 0, "both", "The job exceeded allowed execute duration of 00:03"),
    ("wall_time", 46, 0, "both", "The job exceeded allowed job duration of 00:03"),
    ("policy", 3, 7, "both", "bad exit"),
    ("policy", 3, 0, "both",
     "The job attribute PeriodicHold expression 'JobStatus == 2' evaluated to TRUE"),
    ("user", 1, 0, "both", "because we test (by user vine)"),
    ("submitted_on_hold", 15, None, "both", "submitted on hold at user's request"),
    ("memory", 21, 102, "both",
     "Error from slot1_1@localhost: memory usage exceeded request_memory"),
    ("disk", 21, 104, "both",
     "Error from slot1_2@localhost: disk usage exceeded allocated disk"),
    ("too_many_starts", 26, 0, "both", "Policy of this site: too many starts"),
    ("transfer_size", 32, 0, "both",
     "TransferInputSizeMB (3) is greater than MAX_TRANSFER_INPUT_MB (1) at submit time"),
]  # fmt: skip

# Read in HTCondor's source, or what sites write: not provoked here.
OTHERS = [
    ("memory", 34, 102, "Job has gone over cgroup memory limit of 128 megabytes. Last measured "
     "usage: 120 megabytes.  Consider resubmitting with a higher request_memory."),
    ("memory", 34, 0, "Job has encountered an out-of-memory event."),
    ("memory", 3, 0,
     "The job attribute PeriodicHold expression 'MemoryUsage > 2000' evaluated to TRUE"),
    ("disk", 34, 104, "Job has exceeded allocated disk (2 GB). Consider increasing the value "
     "of request_disk."),
    ("cpus", 21, 101, "CPU usage exceeded request_cpus"),
    ("wall_time", 26, 0, "The system macro SYSTEM_PERIODIC_HOLD expression "
     "'RemoteWallClockTime > 259200' evaluated to TRUE"),
    ("too_many_starts", 26, 0, "NumJobStarts >= 30: job restarted too often"),
    ("access_point_full", 12, 28, f"{_RECEIVED}writing to file /home/a/o: (errno 28) No space "
     "left on device"),
    ("execute_point_full", 13, 28, "Transfer input files failure at execution point slot1@x "
     "while receiving files from access point y. Details: writing to file /ex/w: (errno 28) "
     "No space left on device"),
    ("unreadable_input", 13, 13, f"{_INPUT}reading from file /home/a/s: (errno 13) Permission "
     "denied"),
    ("transfer", 13, 1, f"{_INPUT}Error from curl plugin: could not resolve host"),
    ("spooling", 16, 0, "Spooling input data files"),
    ("credential", 4, 0, "Proxy expired"),
    ("container", 35, 0, "Error from slot1@x: Cannot pull image"),
    ("batch_system", 0, 0, "Error parsing classad or job not found"),
    ("unknown", 99, 5, "Something new"),
    ("unknown", None, None, None),
]  # fmt: skip

AD = {"Cmd": "/tmp/x/program", "RequestMemory": 50, "RequestDisk": 1000}


@pytest.mark.parametrize(
    ("name", "code", "subcode", "version", "reason"), REAL, ids=lambda value: str(value)[:20]
)
def test_a_real_hold_has_its_name(
    name: str, code: int, subcode: int | None, version: str, reason: str
) -> None:
    cause = explain_hold(code, subcode, reason, AD)
    assert cause.name == name
    assert cause.explanation
    assert cause.remedy


@pytest.mark.parametrize(
    ("name", "code", "subcode", "reason"), OTHERS, ids=lambda value: str(value)[:20]
)
def test_other_holds_have_their_names(
    name: str, code: int | None, subcode: int | None, reason: str | None
) -> None:
    assert explain_hold(code, subcode, reason, AD).name == name


def test_the_missing_file_is_named() -> None:
    cause = explain_hold(13, 2, f"{_INPUT}{_FIRST}reading from file /tmp/a b: {_NO_FILE}")
    assert "/tmp/a b" in cause.explanation


def test_memory_is_raised_over_what_was_asked_for_and_what_was_used() -> None:
    text = "Job has gone over cgroup memory limit of 128 megabytes. Last measured usage: 3000 "
    assert explain_hold(34, 102, text + "megabytes.", AD).repair == {"RequestMemory": 4500}
    assert explain_hold(34, 102, "", AD).repair == {"RequestMemory": 75}


def test_without_knowing_how_much_nothing_is_repaired() -> None:
    assert explain_hold(34, 102, "Job has encountered an out-of-memory event.").repair is None
    assert explain_hold(21, 104, "disk usage exceeded allocated disk").repair is None


def test_disk_is_doubled_and_told_in_megabytes() -> None:
    cause = explain_hold(21, 104, "disk", {"RequestDisk": 4096000})
    assert cause.repair == {"RequestDisk": 8192000}
    assert "disk=8000" in cause.remedy


@pytest.mark.parametrize(("code", "subcode"), [(1, 0), (3, 0), (13, 2), (26, 0), (15, 0)])
def test_what_somebody_has_to_settle_is_never_repaired(code: int, subcode: int) -> None:
    reason = f"reading from file /x: {_NO_FILE}"
    assert explain_hold(code, subcode, reason, AD).repair is None


def test_a_job_whose_files_are_being_spooled_is_not_held() -> None:
    assert not is_hold(16)
    assert is_hold(13)
    assert is_hold(None)


@given(
    st.none() | st.integers(-10, 2000),
    st.none() | st.integers(-2000, 2000),
    st.none() | st.text(),
)
def test_every_hold_has_an_answer(
    code: int | None, subcode: int | None, reason: str | None
) -> None:
    cause = explain_hold(code, subcode, reason)
    assert cause.name
    assert cause.explanation
    assert cause.remedy
