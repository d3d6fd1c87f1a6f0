"""What is published: names and versions agree everywhere, and an installed wheel works outside the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import mgen
from mgen.extras import DISTRIBUTION
from mgen.workflows.doctor import PYTHONS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCES = ("mgen", "rewards", "critics", "configs")
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def python_versions():
    return [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]


def test_the_hints_name_the_distribution():
    assert PROJECT["name"] == DISTRIBUTION


def test_pythons_agree():
    pythons = python_versions()
    first, last = pythons[0], pythons[-1]
    assert [f"{major}.{minor}" for major, minor in PYTHONS] == [first, last]
    allowed = SpecifierSet(PROJECT["requires-python"])
    minors = [f"3.{minor}" for minor in range(8, 30) if allowed.contains(f"3.{minor}.1")]
    assert minors == pythons
    for name in ("Makefile", ".ci/run"):
        assert f"{first} to {last}" in (ROOT / name).read_text(), name


def test_hosted_ci_covers_all_pythons_systems_and_bounds():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    matrix = jobs["test"]["strategy"]["matrix"]
    assert matrix["python"] == python_versions()
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    bounds = {one["bounds"]: one["python"] for one in jobs["bounds"]["strategy"]["matrix"]["include"]}
    assert bounds == {"lowest": python_versions()[0], "newest": python_versions()[-1]}
    steps = {step.get("run") for job in jobs.values() for step in job["steps"]}
    assert {".ci/run", "make docs"} <= steps


def test_lowest_bounds_are_those_of_the_dependencies():
    script = [sys.executable, str(ROOT / ".ci" / "lowest_bounds.py")]
    lines = subprocess.run(script, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "torch==2.10" in lines and "starlette==1.0" in lines  # a dependency, and one of an extra
    assert not any(line.startswith(("pytest", "mgen")) for line in lines)
    assert all(re.fullmatch(r"[\w.-]+==[\d.]+", line) for line in lines)
    assert all(Requirement(line).name for line in lines)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_issue_templates_are_forms(path):
    form = yaml.safe_load(path.read_text())
    if path.stem == "config":
        return
    assert form["name"] and form["description"] and form["labels"]
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids))
    assert all(field["type"] in {"textarea", "input"} and field["attributes"]["label"] for field in form["body"])
    assert any(field.get("validations", {}).get("required") for field in form["body"])


def test_each_kind_of_contribution_has_a_template():
    assert {"reward", "critic", "corpus_format", "baseline", "bug"} <= {path.stem for path in TEMPLATES}
    request = (ROOT / ".github" / "PULL_REQUEST_TEMPLATE.md").read_text()
    assert set(re.findall(r"^\*\*(.+)\*\*$", request, re.M)) >= {"Reward", "Critic", "Corpus format", "Baseline"}


def test_the_citation_has_what_the_format_requires():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["license"] == PROJECT["license"]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(("target", "tools"), [("demo", False), ("install", False), ("test", True), ("check", True)])
def test_only_tests_and_checks_install_tools(target, tools, tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    command = ["make", "--dry-run", target]
    plan = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert (".[listen,tabs]" in plan, ".[dev]" in plan) == (True, tools)


def releases(changelog):
    """Version of each release, newest first, and whether something follows the last."""
    sections = re.split(r"^## ", changelog, flags=re.M)[1:]
    unreleased, *released = sections
    assert unreleased.startswith("[Unreleased]\n")
    headings = [re.match(r"\[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d\n", section) for section in released]
    assert all(headings), "expected '## [1.2.3] - 2030-01-31'"
    return [Version(heading[1]) for heading in headings], "\n- " in unreleased


def version_fits(version, changelog):
    """The procedure of CONTRIBUTING.md: a release has its section; before the next, its version ends in .dev0."""
    released, pending = releases(changelog)
    version, newest = Version(version), max(released, default=Version("0"))
    assert released == sorted(released, reverse=True)
    return version > newest and version.dev == 0 if pending or not released else version >= newest


def test_version_and_changelog_agree():
    assert version_fits(mgen.__version__, (ROOT / "CHANGELOG.md").read_text())


@pytest.mark.parametrize(
    ("version", "changelog", "fits"),
    [
        ("0.1.0.dev0", "## [Unreleased]\n\n- a\n", True),
        ("0.1.0", "## [Unreleased]\n\n- a\n", False),
        ("0.1.0", "## [Unreleased]\n\n## [0.1.0] - 2030-01-31\n\n- a\n", True),
        ("0.2.0.dev0", "## [Unreleased]\n\n- b\n\n## [0.1.0] - 2030-01-31\n\n- a\n", True),
        ("0.1.0.dev0", "## [Unreleased]\n\n- b\n\n## [0.1.0] - 2030-01-31\n\n- a\n", False),
    ],
)
def test_the_procedure_of_releases(version, changelog, fits):
    assert version_fits(version, changelog) == fits


def test_the_container_copies_what_a_wheel_is_built_from():
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "Containerfile").read_text(), re.M)
    names = {name for line in copied for name in line.split()}
    assert names == {"pyproject.toml", "constraints.txt", "README.md", "LICENSE", *SOURCES}
    assert all((ROOT / name).exists() for name in names)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel, built from copies: a build writes into its source."""
    pytest.importorskip("setuptools", reason="setuptools, which builds the wheel, is not installed")
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip("wheel", "--no-build-isolation", "--wheel-dir", source / "dist", source)
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Folder with the installed wheel; what mgen depends on is that of this Python."""
    folder = tmp_path_factory.mktemp("installed")
    pip("install", "--target", folder, wheel)
    return folder


def pip(*words):
    options = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", words[0], *options, *map(str, words[1:])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_wheel_has_all_packages_types_and_recipes_and_nothing_else(wheel):
    assert wheel.name.startswith("mgen_music-")
    inside = set(zipfile.ZipFile(wheel).namelist())
    top = {name.split("/")[0] for name in inside}
    assert {name for name in top if not re.search(r"\.(dist-info|data)$", name)} == {"mgen", "rewards", "critics"}
    assert {"mgen/py.typed", "rewards/py.typed", "critics/py.typed"} <= inside
    ours = [path for folder in SOURCES for path in (ROOT / folder).rglob("*")]
    files = {path.relative_to(ROOT).as_posix() for path in ours if path.is_file() and "__pycache__" not in path.parts}
    shipped = {re.sub(r"^.*\.data/data/share/mgen/", "", name) for name in inside}
    assert sorted(files - shipped) == []


OUTSIDE = """
import sys
from pathlib import Path
from typer.testing import CliRunner

import critics, mgen, rewards
from mgen.cli import recipe
from mgen.cli.main import app
from mgen.workflows import doctor

folder = Path(sys.argv[1])
for package in (mgen, rewards, critics):
    assert folder in Path(package.__file__).parents, package.__file__
assert folder in recipe.CONFIGS.parents


def call(*words, codes=(0,)):
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code in codes, (words, result.output, result.exception)
    return result.output


assert call("--version") == f"mgen {mgen.__version__}\\n"
doctor.compile_problem = lambda _: ""  # takes seconds, and has its own test
assert f"mgen {mgen.__version__}, torch" in call("doctor", codes=(0, 1))  # 1: something optional is missing
assert "--kl_weight" in call("finetune", "--help")
assert "--policy" in call("finetune", "--config", "laptop", codes=(2,))  # the recipe is read; what it lacks is missed
assert "demo, gpu, laptop" in call("recipe", "no_such", "--target", "a", "--style", "a=x", "--out", "runs", codes=(2,))

steps = []
real = recipe.run_step
def first_step(command, config, words, folder=""):
    assert (recipe.CONFIGS / (folder or command) / f"{config}.yaml").is_file()
    steps.append(command)
    if command == "prepare":
        real(command, config, words, folder)
    if command == "evaluate":
        Path("demo/evaluation").mkdir()
        Path("demo/evaluation/report.html").write_text("")
        Path("demo/evaluation/metrics.json").write_text('{"outcome": ["level"]}')
recipe.run_step = first_step
call("demo", "--works", "4", "--out", "demo")
assert Path("demo/corpus/corpus.json").is_file()
print(*steps)
"""


@pytest.mark.slow
def test_an_installed_mgen_runs_outside_the_checkout(installed, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    script = subprocess.run(
        [installed / "bin" / "mgen", "--version"], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert script.stdout == f"mgen {mgen.__version__}\n", script.stderr
    command = [sys.executable, "-c", OUTSIDE, str(installed)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-6:] == ["prepare", "pretrain", "critic", "finetune", "pretrain", "evaluate"]
