"""`make release`: what it refuses, which licences it lets in, what it proves of an environment."""

import json
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest
import yaml
from license_expression import get_spdx_licensing

from release import archives, environment, licences, state
from tests.fakes import stand_in
from tests.imports import TOP
from vtcc.errors import VtccError
from vtcc.version import __version__

POLICY = licences.Policy(
    allowed=["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-3-Clause"],
    words={"License :: OSI Approved :: MIT License": "MIT"},
    stated={"silent": "MIT", "bundle": "MIT AND GPL-2.0-only"},
    exceptions=[
        licences.Exemption(packages=["bundle"], licence="MIT AND GPL-2.0-only", reason="for HEIC"),
        licences.Exemption(packages=["moved"], licence="GPL-2.0-only", reason="was so"),
    ],
)


def component(name, *licenses):
    return {"name": name, "version": "1.0", "licenses": list(licenses)}


def by_id(identifier):
    return {"license": {"id": identifier, "acknowledgement": "declared"}}


@pytest.fixture
def repository(tmp_path):
    """What says the version, committed."""
    (tmp_path / "vtcc").mkdir()
    for name in ("vtcc/version.py", "CITATION.cff", "compose.yaml"):
        shutil.copy(TOP / name, tmp_path / name)
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## {__version__}\n\n- Faster.\n")
    commit(tmp_path, "git init -q -b main")
    return tmp_path


def commit(place, before="true"):
    who = "-c user.name=test -c user.email=test@localhost"
    command = f"{before} && git add -A && git {who} commit -qm state"
    subprocess.run(command, shell=True, cwd=place, check=True)


def test_a_release_has_one_version_everywhere(repository):
    assert state.version_of(repository) == __version__


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("CHANGELOG.md", f"## {__version__}", "## 9.9.9",
         f"CHANGELOG.md: found '9.9.9' on top; a release needs a section '## {__version__}' there"),
        ("CHANGELOG.md", "- Faster.", "", f"CHANGELOG.md: the section {__version__} is empty"),
        ("CHANGELOG.md", "## ", "### ",
         "CHANGELOG.md: found 'no section' on top; "
         f"a release needs a section '## {__version__}' there"),
        ("CITATION.cff", f"version: {__version__}", "version: 9.9.9",
         f"CITATION.cff: found version 9.9.9; vtcc/version.py says {__version__}"),
        ("CITATION.cff", "\nversion: ", "\nedition: ",
         "CITATION.cff: expected one version, found 0"),
        ("compose.yaml", f":{__version__}", ":9.9.9",
         f"compose.yaml: found tag 9.9.9; vtcc/version.py says {__version__}"),
        ("vtcc/version.py", f'"{__version__}"', '"next"',
         "vtcc/version.py: found 'next'; a version is 1.2.3 or 1.2.3rc1"),
    ],
)  # fmt: skip
def test_another_version_anywhere_is_refused(repository, file, old, new, said):
    text = (repository / file).read_text()
    assert old in text
    (repository / file).write_text(text.replace(old, new))
    commit(repository)
    with pytest.raises(VtccError) as refused:
        state.version_of(repository)
    assert str(refused.value) == said


def test_what_is_not_committed_is_refused(repository):
    (repository / "a.py").write_text("")
    (repository / "b.py").write_text("")
    with pytest.raises(VtccError) as refused:
        state.version_of(repository)
    assert str(refused.value) == "a.py and 1 more: not committed; a release is made of one commit"


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT", True),
        ("MIT AND GPL-3.0-only", False),
        ("MIT AND (GPL-3.0-only OR Apache-2.0)", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("MIT WITH LLVM-exception", False),
        ("", False),
    ],
)
def test_an_expression_is_permitted_when_one_may_choose_so(expression, holds):
    assert licences.permitted(expression, POLICY.allowed) is holds


def test_a_licence_outside_the_policy_is_named():
    core = [
        component("Plain_One", by_id("MIT")),
        component("silent"),
        component("worded", {"license": {"name": "License :: OSI Approved :: MIT License"}}),
        component("chosen", {"expression": "GPL-2.0-only OR BSD-3-Clause"}),
        component("both", by_id("MIT"), {"license": {"name": "License :: OSI Approved"}}),
        component("vtcc", by_id("MIT")),
    ]
    more = [
        *core,
        component("bundle", by_id("MIT")),
        component("copyleft", by_id("AGPL-3.0-only")),
        component("moved", by_id("AGPL-3.0-only")),
        component("nothing"),
        component("strange", {"license": {"name": "do (as you like"}}),
        component("two", {"expression": "MIT OR GPL-2.0-only"}, by_id("GPL-2.0-only")),
    ]
    bills = {"core": {"components": core}, "pipeline": {"components": more}}
    rows = licences.table(bills, POLICY)
    assert [(row.package, row.size, row.licence, row.ruling) for row in rows] == [
        ("both", "core", "MIT", "allowed"),
        ("bundle", "pipeline", "MIT AND GPL-2.0-only", "for HEIC"),
        ("chosen", "core", "GPL-2.0-only OR BSD-3-Clause", "allowed"),
        ("copyleft", "pipeline", "AGPL-3.0-only", "refused"),
        ("moved", "pipeline", "AGPL-3.0-only", "refused"),
        ("nothing", "pipeline", "", "refused"),
        ("plain-one", "core", "MIT", "allowed"),
        ("silent", "core", "MIT", "allowed"),
        ("strange", "pipeline", "do (as you like", "refused"),
        ("two", "pipeline", "(MIT OR GPL-2.0-only) AND GPL-2.0-only", "refused"),
        ("worded", "core", "MIT", "allowed"),
    ]
    with pytest.raises(VtccError) as refused:
        licences.check(rows)
    lines = str(refused.value).splitlines()
    assert [line.split()[0] for line in lines] == ["copyleft", "moved", "nothing", "strange", "two"]
    assert lines[0] == (
        "copyleft 1.0: licence AGPL-3.0-only is not allowed; look at it, then add it to "
        "release/licences.yaml with a reason, or do without the package"
    )
    assert lines[2].startswith("nothing 1.0: licence unknown is not allowed;")
    licences.check(row for row in rows if row.ruling != "refused")
    assert licences.unused(rows[3:], POLICY) == [
        "licences.yaml speaks of bundle, which was not installed"
    ]


def test_the_table_is_a_csv_file(tmp_path):
    rows = licences.table({"core": {"components": [component("a", by_id("MIT"))]}}, POLICY)
    licences.write(rows, tmp_path / "l.csv")
    assert (tmp_path / "l.csv").read_text() == (
        "package,version,size,declared,licence,ruling\na,1.0,core,MIT,MIT,allowed\n"
    )


def test_the_policy_speaks_spdx_and_gives_reasons():
    policy = licences.read(licences.POLICY)
    known = get_spdx_licensing()
    for expression in [
        *policy.allowed,
        *policy.words.values(),
        *policy.stated.values(),
        *(exemption.licence for exemption in policy.exceptions),
    ]:
        if not expression.startswith("LicenseRef-"):
            assert known.validate(expression).errors == [], expression
    assert len(set(policy.allowed)) == len(policy.allowed)
    for exemption in policy.exceptions:
        assert len(exemption.reason) > 20
        assert not licences.permitted(exemption.licence, policy.allowed)
        for name in exemption.packages:
            assert policy.stated.get(name, exemption.licence) == exemption.licence
    wrong = yaml.safe_load(licences.POLICY.read_text()) | {"alowed": []}
    with pytest.raises(VtccError, match="alowed: unknown key; did you mean 'allowed'"):
        licences.schema.build(licences.Policy, wrong, file="licences.yaml")


@pytest.fixture
def tried(tmp_path):
    """An environment whose programs are small scripts."""
    made = environment.Environment.__new__(environment.Environment)
    made.room, made.place = tmp_path, tmp_path / "environment"
    made.python = made.place / "bin/python"
    (made.place / "bin").mkdir(parents=True)
    (tmp_path / "home").mkdir()
    (made.place / "bin/python").symlink_to(sys.executable)
    return made


def test_imports_of_a_command_are_seen(tried, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(TOP))
    out, imported = tried("python", "-c", "import json, html.entities; print(json.dumps([1]))")
    assert out == "[1]\n"
    assert {"json", "html"} <= imported
    assert "csv" not in imported
    with pytest.raises(VtccError) as refused:
        tried("python", "-c", "import json, sys; sys.exit('error: no images')")
    assert str(refused.value) == (
        "`python -c import json, sys; sys.exit('error: no images')` ended with status 1 "
        "where the wheel is installed\nerror: no images"
    )
    out, _ = tried("python", "-c", "import os; print(os.environ.get('PYTHONPATH'), os.getcwd())")
    assert out.split() == ["None", str(tried.room)]  # nothing of the caller's project


def test_packages_of_extras_are_looked_for(tried):
    there, _ = tried("python", "-c", environment._THERE, "json", "no_such_package", "html")
    assert there == "json html\n"


def test_an_installation_that_is_not_the_wheels_is_refused(tried, monkeypatch):
    answers = {"python": (f"{TOP}/vtcc/__init__.py\n", set()), "there": ("mlflow pandas\n", set())}
    stand_in(
        monkeypatch, environment.Environment, "__call__",
        lambda self, program, *arguments, status=0: answers[
            "there" if "pandas" in arguments else program
        ],
    )  # fmt: skip
    with pytest.raises(VtccError, match=r"vtcc comes from .*__init__\.py instead of the wheel"):
        environment.prove_core(tried, __version__)
    answers["python"] = (f"{tried.place}/lib/vtcc/__init__.py\n", set())
    answers["vtcc"] = (f"vtcc {__version__}\n", {"torch", "pandas"})
    rows = ["path", *(f"{i}.png" for i in range(environment.DIGITS))]
    (tried.room / "sorted.csv").write_text("\n".join(rows))
    with pytest.raises(VtccError) as refused:
        environment.prove_core(tried, __version__)
    assert str(refused.value) == "the smallest installation has mlflow, which is of an extra"
    answers["there"] = ("\n", set())
    answers["vtcc"] = (f"vtcc {__version__}\n", set())
    with pytest.raises(VtccError, match="no command imported torch"):
        environment.prove_core(tried, __version__)
    answers["vtcc"] = (f"vtcc {__version__}\n", {"torch"})
    environment.prove_core(tried, __version__)
    with pytest.raises(VtccError, match=r"says 'vtcc .*'; expected vtcc 9\.9\.9"):
        environment.prove_core(tried, "9.9.9")


def packed(dist, wheel, sdist):
    """Archives with files of some names, built instead of the real ones."""
    with zipfile.ZipFile(dist / "vtcc-1.0.0-py3-none-any.whl", "w") as archive:
        for name in wheel:
            archive.writestr(name, "")
    with tarfile.open(dist / "vtcc-1.0.0.tar.gz", "w:gz") as archive:
        for name in sdist:
            archive.addfile(tarfile.TarInfo(f"vtcc-1.0.0/{name}"))


@pytest.mark.parametrize(
    ("more", "less", "sdist", "said"),
    [
        ((), "", ("LICENSE", "vtcc/a.py", "vtcc.egg-info/PKG-INFO"), ""),
        ((), "vtcc/py.typed", (), "vtcc-1.0.0-py3-none-any.whl: lacks vtcc/py.typed"),
        (("flows/a.py",), "", (),
         "vtcc-1.0.0-py3-none-any.whl: holds flows, which is not the package"),
        ((), "", ("vtcc/a.py",), "vtcc-1.0.0.tar.gz: lacks LICENSE"),
        ((), "", ("LICENSE", "tests/test_a.py"),
         "vtcc-1.0.0.tar.gz: holds tests/, which belongs to a clone"),
    ],
)  # fmt: skip
def test_archives_hold_the_package_and_nothing_else(more, less, sdist, said, tmp_path, monkeypatch):
    names = [*archives.IN_WHEEL, "vtcc-1.0.0.dist-info/METADATA", *more]
    packed(tmp_path, [name for name in names if name != less], sdist)
    run = stand_in(monkeypatch, archives, "called", lambda *command: "")
    if said:
        with pytest.raises(VtccError) as refused:
            archives.build(TOP, tmp_path, "1.0.0")
        assert str(refused.value) == said
    else:
        wheel = archives.build(TOP, tmp_path, "1.0.0")
        assert wheel == tmp_path / "vtcc-1.0.0-py3-none-any.whl"
        assert run.call_args.args[:3] == ("twine", "check", "--strict")
    with pytest.raises(VtccError, match=r"vtcc-2\.0\.0-py3-none-any\.whl: was not built"):
        archives.build(TOP, tmp_path, "2.0.0")


def test_a_program_that_fails_is_named_with_its_last_words(tmp_path):
    with pytest.raises(VtccError) as refused:
        archives.called(sys.executable, "-c", "import sys; sys.exit('broken')")
    assert str(refused.value) == f"{sys.executable} ended with status 1\nbroken"
    assert json.loads(archives.called(sys.executable, "-c", "print([1])")) == [1]


def test_what_installs_is_what_is_promised():
    """`requires-python`, classifiers, the hosted workflow and `make setup`: the same Pythons."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == ">=3.11,<3.14"
    versions = ["3.11", "3.12", "3.13"]
    prefix = "Programming Language :: Python :: "
    listed = [c.removeprefix(prefix) for c in project["classifiers"] if c.startswith(prefix)]
    assert listed == versions
    assert "(3, 11) <= sys.version_info[:2] < (3, 14)" in (TOP / "Makefile").read_text()
    workflow = yaml.safe_load((TOP / ".github/workflows/tests.yml").read_text(encoding="utf-8"))
    for job in ("suite", "installation"):
        assert workflow["jobs"][job]["strategy"]["matrix"]["python"] == versions
    assert workflow["permissions"] == {"contents": "read"}
