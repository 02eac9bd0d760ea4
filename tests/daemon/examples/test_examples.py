"""The examples keep what they promise; quickstart.py has tests of its own."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import helpers

pytestmark = pytest.mark.daemon

EXAMPLES = ("sweep", "serverless", "work_queue_words", "ospool")
CRIMSON = (220, 20, 60)


def _run(
    directory: Path, name: str, *options: str, status: int = 0, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run an example in a directory of its own; check that nothing is left afterwards."""
    path = os.pathsep.join([str(helpers.ROOT), os.environ.get("PYTHONPATH", "")])
    before = _jobs()
    started = time.monotonic()
    result = subprocess.run(
        [sys.executable, str(helpers.ROOT / "examples" / f"{name}.py"), *options],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": path, "HOME": str(directory), **variables},
        capture_output=True,
        text=True,
        timeout=300,  # some compute for 30 s, where other tests may do so too
        check=False,
    )
    print(f"{name} {' '.join(options)}: {time.monotonic() - started:.1f} s")
    assert result.returncode == status, result.stderr + result.stdout
    assert _jobs() <= before
    # Its files, and what runs on its behalf, are in the directory.
    helpers.wait_until(lambda: not helpers.processes_with(str(directory)))
    return result


def _jobs() -> set[tuple[int, int]]:
    """Return the jobs in the queue that have not ended or been removed."""
    import htcondor2

    ads = htcondor2.Schedd().query(
        "JobStatus =!= 3 && JobStatus =!= 4", ["ClusterId", "ProcId"]
    )
    return {(ad["ClusterId"], ad["ProcId"]) for ad in ads}


def _need(*modules: str) -> None:
    """Skip where the extra "examples" is not installed; the sandbox has it."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install vine-sharedport[examples]")


def _all_by_shared_port(result: subprocess.CompletedProcess[str], tasks: int) -> bool:
    ways = Counter(
        re.findall(r"a worker by (the shared port|TCP)", result.stdout + result.stderr)
    )
    return ways == {"the shared port": tasks}


def test_the_function_calls_find_the_critical_temperature(pool: Any, tmp_path: Path) -> None:
    _need("numpy", "cloudpickle", "threadpoolctl", "conda_pack")
    result = _run(tmp_path, "serverless")
    assert _all_by_shared_port(result, 20)
    lines = re.findall(
        r"^ +(\d\.\d{3}) +(\d\.\d{3}) +(\d\.\d{3}) ", result.stdout, re.MULTILINE
    )
    assert len(lines) == 20
    critical = 2 / math.log(1 + math.sqrt(2))
    for temperature, found, exact in ((float(a), float(b), float(c)) for a, b, c in lines):
        if temperature < critical:
            assert exact == pytest.approx(
                (1 - math.sinh(2 / temperature) ** -4) ** 0.125, abs=1e-3
            )
        else:
            assert exact == 0
        if temperature < 2.1:
            assert found == pytest.approx(exact, abs=0.02)
        elif temperature > 2.6:
            assert found < 0.15


def test_the_sweep_draws_the_accuracies_that_it_found(pool: Any, tmp_path: Path) -> None:
    _need("sklearn", "matplotlib", "cloudpickle")
    result = _run(tmp_path, "sweep")
    assert _all_by_shared_port(result, 9)
    rows = re.findall(r"gamma=(\S+) +best +([\d.]+)%", result.stdout)
    accuracy = {float(gamma): float(best) for gamma, best in rows}
    assert len(accuracy) == 9
    # The best SVC reads nearly all digits; where each has learnt only itself by heart, it
    # guesses one of ten.
    assert max(accuracy, key=lambda gamma: accuracy[gamma]) == 0.001
    assert 95 < accuracy[0.001] < 98
    assert 9 < accuracy[0.1] < 12
    best = re.search(r"Best: C=(\d+), gamma=0\.001: ([\d.]+)%", result.stdout)
    assert best is not None, result.stdout
    assert float(best[2]) == accuracy[0.001]

    from PIL import Image  # comes with matplotlib

    with Image.open(tmp_path / "sweep.png") as picture:
        assert picture.format == "PNG"
        assert picture.size == (900, 720)
        pixels = picture.convert("RGB")
    framed = [
        (x, y) for x in range(900) for y in range(720) if pixels.getpixel((x, y)) == CRIMSON
    ]
    left, right = min(x for x, _ in framed), max(x for x, _ in framed)
    top, bottom = min(y for _, y in framed), max(y for _, y in framed)
    # The frame is the middle row of nine, and the C that is told.
    column = [0.01, 0.1, 1, 10, 100, 1000].index(float(best[1]))
    line = 5  # pixels: 3 points at 120 in an inch
    width, height = right - left + 1 - line, bottom - top + 1 - line
    inside = pixels.getpixel((left + 10, top + 10))
    assert inside[0] > 200  # viridis: yellow where most are read,
    assert inside[1] > 200
    # and dark blue four rows below, where hardly any are, and at the smallest C.
    for x, y in ((left + 10, top + 10 + 4 * height), (left + 10 - column * width, top + 10)):
        outside = pixels.getpixel((x, y))
        assert max(outside) < 160, outside
    assert pixels.getpixel((left + 10, top + 10 + 5 * height)) == (255, 255, 255)  # the axis


def test_work_queue_tells_texts_apart(pool: Any, tmp_path: Path) -> None:
    texts = {
        "zoo": "The zebra and the lion. ZEBRA, zebra; and a zebra-crossing is of no use.\n",
        "sea": "The whale and the sea: and the whales' whale!\n",
        "sky": "The sun and the moon, the moon and the sun and\nthe moon\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    result = _run(tmp_path, "work_queue_words", *texts)
    assert _all_by_shared_port(result, 3)
    for name, text in texts.items():
        words = [word for word in re.findall("[a-z]+", text.lower()) if len(word) > 2]
        assert re.search(rf"^{name} +{len(words)} words", result.stdout, re.MULTILINE)
    most = dict(re.findall(r"^(\w+) +(\w+),", result.stdout, re.MULTILINE))
    assert most == {"zoo": "zebra", "sea": "whale", "sky": "moon"}


@pytest.mark.parametrize(
    "options", [("--preset", "personal"), ("--project", "Chaos")], ids=["personal", "ospool"]
)
def test_the_ospool_example_finds_where_chaos_begins(
    pool: Any, tmp_path: Path, options: tuple[str, ...]
) -> None:
    result = _run(tmp_path, "ospool", *options)
    assert _all_by_shared_port(result, 25)
    assert "first 3.57\n" in result.stdout
    found = re.search(r"At r = 4 the exponent is ([\d.]+)", result.stdout)
    assert found is not None
    assert float(found[1]) == pytest.approx(math.log(2), abs=0.003)


@pytest.mark.parametrize("where", ["in the pool", "without HTCondor"])
def test_a_dry_run_prints_the_jobs_and_submits_none(
    pool: Any, tmp_path: Path, where: str
) -> None:
    import htcondor2

    variables = {} if where == "in the pool" else {"CONDOR_CONFIG": str(tmp_path / "none")}
    before = htcondor2.Schedd().history("true", [], match=1)
    options = ("--dry-run", "--project", "Chaos", "--container", "osdf:///ospool/a/b-1.0.sif")
    result = _run(tmp_path, "ospool", *options, **variables)
    assert [str(ad) for ad in htcondor2.Schedd().history("true", [], match=1)] == [
        str(ad) for ad in before
    ]
    ad = htcondor2.Submit(result.stdout)
    assert ad["My.ProjectName"] == '"Chaos"'
    assert ad["My.JobDurationCategory"] == '"Medium"'
    assert ad["container_image"] == "osdf:///ospool/a/b-1.0.sif"
    assert ad["request_cpus"] == "1"
    assert ad["request_memory"] == "1000"
    assert "launcher.sh" in ad["executable"]
    assert str(tmp_path) in ad["log"]  # below the home directory, as the OSPool wants it


def test_the_ospool_example_runs_no_ospool_jobs_in_a_pool_of_its_own(
    pool: Any, tmp_path: Path
) -> None:
    result = _run(tmp_path, "ospool", status=1, CONDOR_CONFIG=str(tmp_path / "none"))
    assert "try --dry-run, or --preset personal" in result.stderr
    assert "starting a personal pool" not in result.stderr


def test_who_waits_in_vain_is_told_why(pool: Any, tmp_path: Path) -> None:
    """A container image that is nowhere: the job is held, or never matched."""
    path = os.pathsep.join([str(helpers.ROOT), os.environ.get("PYTHONPATH", "")])
    script = helpers.ROOT / "examples" / "ospool.py"
    options = ["--preset", "personal", "--container", "docker://nowhere.invalid/none:1"]
    with subprocess.Popen(
        [sys.executable, str(script), *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "HOME": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if line.startswith("waiting: "):
                    break
            assert len(line) > len("waiting: \n"), line
        finally:
            process.send_signal(signal.SIGINT)
            said = process.stderr.read()
    assert "KeyboardInterrupt" in said
    helpers.wait_until(lambda: not _jobs())


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_example_tells_how_it_is_used(pool: Any, tmp_path: Path, name: str) -> None:
    if name == "sweep":
        _need("sklearn", "matplotlib")
    result = _run(tmp_path, name, "--help")
    assert f"usage: {name}.py" in result.stdout
    readme = (helpers.ROOT / "examples" / "README.md").read_text()
    assert f"[{name}.py]({name}.py)" in readme
    result = _run(tmp_path, name, "--workers", "0", status=2)
    assert "--workers is 0; give 1 or more" in result.stderr
