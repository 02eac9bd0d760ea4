"""Mends about directories, names, the status file and leaving."""

from __future__ import annotations

from tests.prove.mend import Mend

_GONE = "tests/daemon/jobs/test_working_directory.py"
_STATUS = "tests/daemon/factory/test_status_file.py"
_MODULES = "tests/daemon/factory/test_names_of_modules.py::test_a_"

MENDS = (
    Mend(
        "own processes: started by a path and not by -m",
        "vine_sharedport/supervision.py",
        'return [sys.executable, os.path.join(root, "__main__.py")]',
        'return [sys.executable, "-m", "vine_sharedport"]',
        (f"{_MODULES}factory_and_the_one_after_it_run_no_file_of_the_working_directory",),
    ),
    Mend(
        "own processes: no PYTHONPATH that is the working directory",
        "vine_sharedport/factory/control.py",
        "**without_working_directory(os.environ)",
        "**os.environ",
        (
            f"{_MODULES}factory_and_the_one_after_it_run_no_file_of_the_working_directory"
            " -k files",
        ),
    ),
    Mend(
        "a manager's job: our command by its path",
        "vine_sharedport/condor/manager_job/description.py",
        'command = [ours, "run", *manager.shared_port, *as_module, *command]\n'
        '        kind = "file"',
        'command = ["vine_sharedport", "run", *manager.shared_port, *as_module, *command]\n'
        '        kind = "module"',
        (f"{_MODULES}managers_job_runs_no_file_of_the_working_directory",),
    ),
    Mend(
        "a relay's Python: looked for without the working directory",
        "vine_sharedport/worker/launcher.sh",
        '"$each" -I -S -c',
        '"$each" -c',
        (f"{_MODULES}worker_by_relay_runs_no_file_of_the_working_directory",),
    ),
    Mend(
        "working directory: jobs start elsewhere",
        "vine_sharedport/condor/worker_job/description.py",
        'if "initialdir" not in given:',
        "if False:",
        (f"{_GONE}::test_jobs_that_wait_outlive_the_working_directory",),
    ),
    Mend(
        "working directory: no submission in one that was removed",
        "vine_sharedport/condor/schedd.py",
        'if "initialdir" not in description.commands:',
        "if False:",
        (f"{_GONE}::test_no_submission_ends_the_program_in_a_directory_that_was_removed",),
    ),
    Mend(
        "working directory: it has a name when it was removed",
        "vine_sharedport/trusted_files.py",
        "    except FileNotFoundError:\n        path =",
        "    except ZeroDivisionError:\n        path =",
        (
            f"{_GONE}::test_commands_say_what_is_wrong_in_a_directory_that_was_removed -k list",
            "tests/unit/test_trusted_files.py -k removed",
        ),
    ),
    Mend(
        "working directory: relative paths of submit commands are the user's",
        "vine_sharedport/condor/worker_job/description.py",
        "given = make_absolute(given)",
        "pass",
        ("tests/unit/condor/worker_job/test_description.py -k relative",),
    ),
    Mend(
        "status: it is small however many jobs wait",
        "vine_sharedport/factory/jobs/ledger.py",
        "deque(maxlen=_KEPT)",
        "deque(maxlen=None)",
        (
            "tests/unit/factory/jobs/test_ledger.py -k of_many_jobs",
            f"{_STATUS}::test_the_status_does_not_grow_with_the_jobs_that_wait -k 400",
        ),
    ),
    Mend(
        "status: a late one is marked as stale",
        "vine_sharedport/factory/report/staleness.py",
        "or now < snapshot.due:",
        "or True:",
        (
            "tests/unit/factory/report/test_staleness.py",
            f"{_STATUS}::test_a_reader_sees_that_the_status_is_stale -k unwritable",
        ),
    ),
    Mend(
        "leaving: jobs that stay",
        "vine_sharedport/condor/worker_job/submit.py",
        "except Exception as error:  # the program's own result",
        "except ZeroDivisionError as error:  # the program's own result",
        (
            "tests/unit/condor/worker_job/test_submit.py -k leave",
            "tests/daemon/jobs/test_leaving.py -k jobs",
        ),
    ),
    Mend(
        "leaving: a pool that stays",
        "vine_sharedport/condor/personal.py",
        "except Exception as failed:",
        "except ZeroDivisionError as failed:",
        ("tests/daemon/jobs/test_leaving.py -k pool",),
    ),
    Mend(
        "leaving: a factory that stays",
        "vine_sharedport/factory/api.py",
        "except Exception as failed:",
        "except ZeroDivisionError as failed:",
        ("tests/unit/factory/test_api.py -k leaves_the_programs",),
    ),
    Mend(
        "names: the manager's own escapes",
        "vine_sharedport/manager_protocol/query.py",
        "data = _ESCAPE.sub(_as_json, data)",
        "pass",
        (
            "tests/unit/manager_protocol/test_query.py -k own_escapes",
            f"{_GONE}::test_a_manager_in_a_directory_with_an_odd_name_is_understood",
        ),
    ),
    Mend(
        "names: an owner's name ends at the @",
        "vine_sharedport/condor/personal_pool/user.py",
        'return login_name().partition("@")[0]',
        "return login_name()",
        ("tests/unit/condor/personal_pool/test_user.py -k owner_of_jobs",),
    ),
    Mend(
        "names: a backslash stands for itself in a constraint",
        "vine_sharedport/condor/schedd.py",
        "return '\"' + text.replace('\"', '\\\\\"') + '\"'",
        "return '\"' + text.replace('\\\\', '\\\\\\\\').replace('\"', '\\\\\"') + '\"'",
        ("tests/unit/condor/personal_pool/test_user.py -k owner_of_jobs",),
    ),
    Mend(
        "names: a user id without one",
        "vine_sharedport/condor/personal_pool/user.py",
        "except KeyError as error:",
        "except ZeroDivisionError as error:",
        ("tests/unit/condor/personal_pool/test_user.py -k without_a_name",),
    ),
    Mend(
        "directories: files of ended jobs go",
        "vine_sharedport/factory/jobs/last_words.py",
        "while len(kept) > KEPT:",
        "while False:",
        ("tests/unit/factory/jobs/test_last_words.py -k stay",),
    ),
)
