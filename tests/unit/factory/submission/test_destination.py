"""Where jobs go, presets, and OSPool projects; nothing is submitted."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.values import naming
from vine_sharedport.condor.submit_description import Commands, SubmitDescription, Verbatim
from vine_sharedport.errors import SettingError
from vine_sharedport.factory.jobs.description import place_of
from vine_sharedport.factory.options import preset, project
from vine_sharedport.factory.options.preset import load_preset, preset_names, user_directory
from vine_sharedport.factory.options.schema import Options
from vine_sharedport.factory.submission.destination import Where
from vine_sharedport.factory.submission.grid import ADDRESS_FILE

ADDRESS = "<192.0.2.1:9618?addrs=192.0.2.1-9618&noUDP&sock=vine_1>"


def described(*arguments: str, **commands: str) -> SubmitDescription:
    """Return a description such as ``describe_workers`` makes."""
    return SubmitDescription(
        arguments or ("vine_worker", "--cores", "2"),
        {"VINE_SHAREDPORT_ADDRESS": ADDRESS, "VINE_SHAREDPORT_SECRET_FILE": "s"},
        ("/opt/vine_worker", "/home/u/s"),
        Commands(
            {
                "universe": "vanilla",
                "executable": "/opt/launcher.sh",
                "request_cpus": "2",
                "request_memory": "500",
            }
        ),
    ).with_commands(commands)


@pytest.mark.parametrize(
    ("arguments", "kind", "resource"),
    [
        ({}, "local", None),
        ({"schedd": "ap1.example.org"}, "schedd", None),
        ({"schedd": "ap1.example.org", "pool": "cm.example.org:9620"}, "schedd", None),
        ({"schedd": "ap1.example.org", "spool": True}, "spool", None),
        ({"spool": True}, "spool", None),
        ({"grid": "ce ce.example.org"}, "ce", "condor ce.example.org ce.example.org:9619"),
        ({"grid": "CE ce.example.org:9"}, "ce", "condor ce.example.org ce.example.org:9"),
        ({"grid": "ce [2001:db8::1]"}, "ce", "condor [2001:db8::1] [2001:db8::1]:9619"),
        ({"grid": "condor-c  s@h  c:1"}, "condor", "condor s@h c:1"),
        ({"grid": "batch Slurm"}, "batch", "batch slurm"),
    ],
)
def test_places(arguments: dict[str, object], kind: str, resource: str | None) -> None:
    where = Where(**arguments)  # type: ignore[arg-type]
    assert (where.kind, where.grid_resource) == (kind, resource)
    assert where.has_log == (kind in ("local", "ce", "condor", "batch"))
    assert where.tells_host == (resource is None)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"pool": "cm"}, "'condor_status -schedd -pool POOL'"),
        ({"schedd": "two words"}, "schedd is 'two words'"),
        ({"grid": ""}, "ce HOST, condor SCHEDD COLLECTOR, or batch"),
        ({"grid": "arc host"}, "ce HOST"),
        ({"grid": "condor schedd"}, "condor SCHEDD COLLECTOR"),
        ({"grid": "batch loadleveler"}, "slurm|pbs|sge|condor"),
        ({"grid": "batch slurm me@login"}, "'batch slurm me@login'"),
        ({"grid": "ce host:port"}, "HOST:PORT"),
        ({"grid": "batch slurm", "spool": True}, "'batch slurm'"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, object], found: str) -> None:
    with pytest.raises(SettingError, match=r".") as raised:
        Where(**arguments)  # type: ignore[arg-type]
    assert found in str(raised.value)


def test_the_local_pools_description_stays_as_it_is(tmp_path: Path) -> None:
    for where in (Where(), Where(schedd="s"), Where(schedd="s", spool=True)):
        assert where.adapt(described(), str(tmp_path), {}) == described()


def test_another_schedd_is_told_in_remote_attributes(tmp_path: Path) -> None:
    where = Where(grid="condor s@h c")
    job = described(requirements="Arch == 7", allowed_job_duration="60")
    adapted = where.adapt(job, str(tmp_path), {})
    commands = adapted.commands
    assert commands["universe"] == "grid"
    assert commands["grid_resource"] == "condor s@h c"
    assert commands["my.remote_jobuniverse"] == "5"
    assert "(Arch == 7)" in commands["my.remote_requirements"]
    assert "TARGET.Memory >= RequestMemory" in commands["my.remote_requirements"]
    assert commands["my.remote_allowedjobduration"] == "60"
    assert not {"requirements", "allowed_job_duration"} & set(commands)
    assert adapted.environment["VINE_SHAREDPORT_ADDRESS"] == ADDRESS


def test_the_users_own_commands_win(tmp_path: Path) -> None:
    job = described(
        **{"+Remote_Requirements": "MINE", "grid_resource": "condor a b", "+xcount": "8"}
    )
    commands = Where(grid="ce h").adapt(job, str(tmp_path), {}).commands
    assert commands["my.remote_requirements"] == "MINE"
    assert commands["grid_resource"] == "condor a b"
    assert commands["my.xcount"] == "8"
    assert "my.remote_xcount" not in commands


def test_a_ce_is_told_in_its_own_words(tmp_path: Path) -> None:
    job = described(batch_runtime="3600", batch_queue="long")
    commands = Where(grid="ce h").adapt(job, str(tmp_path), {}).commands
    assert commands["my.remote_xcount"] == "2"
    assert commands["my.remote_maxmemory"] == "500"
    assert commands["my.remote_batchruntime"] == "3600"
    assert commands["my.remote_queue"] == '"long"'
    assert commands["my.remote_requirements"] == "True"


@pytest.mark.parametrize(
    ("image", "told", "sent"),
    [
        ("osdf:///a/x.sif", "x.sif", "osdf:///a/x.sif"),
        ("/home/u/x.sif", "x.sif", "/home/u/x.sif"),
        ("/cvmfs/a/x", "/cvmfs/a/x", "/home/u/s"),
        ("docker://a/b:1", "docker://a/b:1", "/home/u/s"),
    ],
)
def test_a_container_travels_to_another_schedd(
    tmp_path: Path, image: str, told: str, sent: str
) -> None:
    job = Where(grid="condor s c").adapt(
        described(universe="container", container_image=image), str(tmp_path), {}
    )
    assert job.commands["My.remote_ContainerImage"] == f'"{told}"'
    assert job.inputs[-1] == sent
    assert "container_image" not in job.commands


def test_names_keep_the_users_spelling(tmp_path: Path) -> None:
    job = described(**{"+JobDurationCategory": '"Medium"'})
    adapted = Where(grid="condor s c").adapt(job, str(tmp_path), {})
    assert '\n+JobDurationCategory = "Medium"\n' in adapted.format()


@pytest.mark.parametrize("grid", ["batch slurm", "ce h"])
def test_the_address_goes_as_a_file_where_blahp_would_change_it(
    tmp_path: Path, grid: str
) -> None:
    files: dict[str, str] = {}
    job = Where(grid=grid).adapt(described(), str(tmp_path), files)
    assert ADDRESS not in job.format()
    assert job.inputs[-1] == f"{tmp_path}/{ADDRESS_FILE}"
    assert files == {ADDRESS_FILE: ADDRESS + "\n"}
    assert not list(tmp_path.iterdir())
    assert job.environment == {"VINE_SHAREDPORT_SECRET_FILE": "s"}


def test_a_batch_system_is_told_the_cores_and_the_worker_the_time(tmp_path: Path) -> None:
    job = Where(grid="batch pbs").adapt(described(batch_runtime="7200"), str(tmp_path), {})
    assert job.commands["my.nodenumber"] == job.commands["my.smpgranularity"] == "2"
    assert job.arguments[-2:] == ("--wall-time", "6900")
    assert job.commands["batch_runtime"] == "7200"


@pytest.mark.parametrize("grid", ["batch slurm", "ce h"])
@pytest.mark.parametrize("word", ["", "a b", "(x)", "~", "$(Cpus)", "'\"", "a*", "\u00e9"])
def test_arguments_that_blahp_would_change_go_as_a_file(
    tmp_path: Path, grid: str, word: str
) -> None:
    arguments = ["vine_worker", "--feature", word, "--cores", "2"]
    files: dict[str, str] = {}
    job = Where(grid=grid).adapt(described(*arguments), str(tmp_path), files)
    (name,) = job.arguments
    assert f"{tmp_path}/{name[1:]}" in job.inputs
    assert files[name[1:]] == "".join(f"{each}\n" for each in arguments)
    Where(grid=grid).adapt(described(*arguments, "more"), str(tmp_path), files)
    assert len([name for name in files if name.endswith(".arguments")]) == 2, (
        "waiting jobs would get the new ones"
    )


@pytest.mark.parametrize(
    ("grid", "commands", "words"),
    [
        ("batch slurm", {"requirements": "Memory > 1"}, "batch_extra_submit_args"),
        ("batch slurm", {"container_image": "docker://a/b"}, "'batch slurm'"),
        ("batch slurm", {"error": "/home/a b/x"}, "'/home/a b/x'"),
        ("batch slurm", {"environment": "\"A='x&y'\""}, " A "),
        ("batch slurm", {"environment": "A=1;B=2"}, "'A=1;B=2'"),
        ("ce h", {"environment": "\"A='(x)'\""}, "'('"),
        ("batch slurm", {"environment": "\"A='a  b'\""}, "'  '"),
        ("batch slurm", {"environment": "\"A='a *'\""}, "'*'"),
        ("condor s c", {"universe": "parallel"}, "parallel"),
    ],
)
def test_what_a_place_cannot_do_is_said(
    tmp_path: Path, grid: str, commands: dict[str, str], words: str
) -> None:
    with pytest.raises(SettingError) as raised:
        Where(grid=grid).adapt(described(**commands), str(tmp_path), {})
    assert words in str(raised.value)


def test_no_macro_of_an_argument_is_filled_in_for_a_batch_system(tmp_path: Path) -> None:
    job = described("w", "--cores", Verbatim("$$(Cpus)"))
    with pytest.raises(SettingError, match=r"'\$\$\(Cpus\)' is a macro"):
        Where(grid="batch slurm").adapt(job, str(tmp_path), {})


@pytest.mark.parametrize(
    ("grid", "ad", "trouble"),
    [
        (None, {}, None),
        ("condor s c", {}, "not yet handed over to 'condor s c'"),
        ("condor s c", {"GridJobId": "condor s c 1.0"}, None),
        ("condor s c", {"GridResourceUnavailableTime": 1}, "cannot reach 'condor s c'"),
    ],
)
def test_what_a_job_waits_for(
    grid: str | None, ad: dict[str, object], trouble: str | None
) -> None:
    found = Where(grid=grid).trouble(ad)
    assert found is None if trouble is None else trouble in str(found)


# --- presets


def test_each_preset_is_one_that_the_factory_takes() -> None:
    assert preset_names() == ["ce", "ospool", "personal", "pool"]
    for name in preset_names():
        loaded = load_preset(name)
        Options.make(loaded.factory)
        assert loaded.commands({"+ProjectName": '"P"'})["+ProjectName"] == '"P"'


def test_the_ospool_preset_asks_for_what_the_ospool_wants(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path), {})
    monkeypatch.setattr(preset, "find_project", lambda: "Mine")
    loaded = load_preset("ospool")
    assert loaded.commands() == {
        "+ProjectName": '"Mine"',
        "+JobDurationCategory": '"Medium"',
    }
    assert loaded.commands({"My.JobDurationCategory": '"Long"'}) == {
        "+ProjectName": '"Mine"',
        "My.JobDurationCategory": '"Long"',
    }
    assert Options.make(loaded.factory).max_idle
    assert loaded.base_directory == f"{tmp_path}/vine_sharedport"


@pytest.fixture
def own_presets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path), {})
    directory = user_directory()
    directory.mkdir(parents=True)
    return directory


def test_a_preset_of_the_users_own_wins_by_its_name(own_presets: Path) -> None:
    (own_presets / "pool.ini").write_text("[where]\nschedd = mine\nspool = yes\n")
    (own_presets / "site.ini").write_text("[factory]\nmax-workers = 7\n")
    assert load_preset("pool").where == Where(schedd="mine", spool=True)
    assert load_preset("site").factory == {"max_workers": "7"}
    assert "site" in preset_names()
    path = own_presets.parent / "x.ini"
    path.write_text('[submit]\n+Department = "A # B"\nrequirements = (A == 1) && B\n')
    assert load_preset(str(path)).commands({"Requirements": "C"}) == {
        "+Department": '"A # B"',
        "Requirements": "C",
    }


def test_what_the_user_names_comes_instead_of_the_presets_place(own_presets: Path) -> None:
    (own_presets / "site.ini").write_text("[where]\nschedd = s\npool = c\n")
    site = load_preset("site")
    assert place_of(Options(), site) == Where(schedd="s", pool="c")
    assert place_of(Options(schedd="t", spool=True), site) == Where("t", "c", spool=True)
    assert place_of(Options(schedd="t")) == Where("t")
    with pytest.raises(SettingError, match=naming("'batch slurm'")):
        place_of(Options(grid="batch slurm", spool=True), site)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("[where]\n\ngrid = arc x\n", ("line 1", "[where]", "'arc x'")),
        ("[where]\nspool = perhaps\n", ("[where]", "spool", "'perhaps'")),
        ("[where]\n\nhost = x\n", ("line 3", "[where] host")),
        ("[manager]\ntcp = off\n", ("line 1", "[manager]")),
        ("[factory]\nmax-worker = 7\n", ("line 2", "[factory] max-worker")),
        ("[factory]\n\n\nmax-workers = many\n", ("line 4", "[factory] max-workers", "'many'")),
        ("\n[jobs]\na = 1\n", ("line 2", "[jobs]")),
        ("a = 1\n", ("INI",)),
        ("[submit]\na\n", ("INI",)),
        ("[submit]\na = 1\na = 2\n", ("INI",)),
        ("[submit]\na = 1\n  more\n", ("line 2", "[submit] a")),
    ],
)
def test_a_wrong_preset_is_named_with_its_line(
    own_presets: Path, text: str, values: tuple[str, ...]
) -> None:
    path = own_presets / "wrong.ini"
    path.write_text(text)
    with pytest.raises(SettingError) as raised:
        load_preset("wrong")
    for value in (str(path), *values):
        assert value in str(raised.value)


def test_a_preset_that_is_not_there_is_named_with_those_that_are(own_presets: Path) -> None:
    with pytest.raises(SettingError, match=r"'osgpool'.*ce, ospool, personal, pool"):
        load_preset("osgpool")
    with pytest.raises(SettingError, match=naming("nowhere.ini")):
        load_preset("./nowhere.ini")
    (own_presets / "binary.ini").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingError, match=naming(own_presets / "binary.ini")):
        load_preset("binary")


# --- projects

MAP = """\
# user projects
* ann  Chem_Ann
* bob  Phys_Bob,Chem_Ann
* cem  "Phys Cem, Bio"
* dan@example.org Dan
alt ann Other
* /^e.*/ Group_E
* /(/ Broken
"""


@pytest.mark.parametrize(
    ("user", "projects"),
    [
        ("ann", ["Chem_Ann"]),
        ("bob", ["Phys_Bob", "Chem_Ann"]),
        ("cem", ["Phys", "Cem", "Bio"]),
        ("eva", ["Group_E"]),
        ("an", []),
        ("annabel", []),
    ],
)
def test_projects_of_a_user(user: str, projects: list[str]) -> None:
    assert project.projects_in(MAP, user) == projects


def test_the_one_project_is_found_and_else_said_what_to_set(tmp_path: Path) -> None:
    path = tmp_path / "map"
    path.write_text(MAP)
    missing = str(tmp_path / "missing")
    assert project.find_project("ann", files=[missing, str(path)]) == "Chem_Ann"
    with pytest.raises(SettingError, match=naming(path, 2, "bob", "Phys_Bob", "Chem_Ann")):
        project.find_project("bob", files=[str(path)])
    with pytest.raises(SettingError, match=r"zoe.*\+ProjectName"):
        project.find_project("zoe", files=[str(path)])
    with pytest.raises(SettingError, match=r"ProjectName"):
        project.find_project("zoe", files=[missing])
    path.chmod(0)
    if not os.access(path, os.R_OK):  # as root can
        with pytest.raises(SettingError, match="Permission denied"):
            project.find_project("ann", files=[str(path)])
        path.chmod(stat.S_IRUSR)


@given(st.text(), st.text())
def test_any_map_can_be_read(text: str, user: str) -> None:
    assert isinstance(project.projects_in(text, user), list)
