"""The end of a ``with`` whose HTCondor is gone: the program keeps its result or exception."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.daemon import helpers

pytestmark = pytest.mark.daemon

vine = pytest.importorskip("vine_sharedport")

# In a process of its own: it ends its HTCondor.
PROGRAM = """
    import sys, warnings
    warnings.simplefilter("ignore")
    import vine_sharedport as vine

    kind, ending = sys.argv[1:3]

    class Mine(Exception):
        pass

    def leave(pool, what):
        with what:
            pool.stop()
            if ending == "exception":
                raise Mine
            if ending == "exit":
                sys.exit(3)
            if ending == "interrupt":
                raise KeyboardInterrupt
            return "result"

    with vine.PersonalPool() as pool, vine.Manager(
        0, shared_port=True, run_info_path=f"{sys.argv[3]}/info"
    ) as m:
        if kind == "jobs":
            what = vine.submit_workers(m, 1, commands={"hold": "true"})
        elif kind == "pool":
            what, stop, said = pool, pool.stop, []
            def fail():
                if said:
                    stop()
                    raise vine.PoolError("cannot be killed")
                said.append(1)
            pool.stop = fail
        try:
            print(leave(pool, what))
        except Mine:
            print("exception")
        except SystemExit as error:
            print("exit")
        except KeyboardInterrupt:
            print("interrupt")
"""


@pytest.mark.parametrize("kind", ["jobs", "pool"])
@pytest.mark.parametrize("ending", ["result", "exception", "exit", "interrupt"])
def test_the_end_of_a_with_keeps_what_the_program_has(
    tmp_path: Path, kind: str, ending: str
) -> None:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    done = subprocess.run(
        [sys.executable, str(program), kind, ending, str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=False,
        env=dict(os.environ, PYTHONPATH=str(helpers.ROOT)),
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, ending), done.stderr
    assert "may still" in done.stderr
