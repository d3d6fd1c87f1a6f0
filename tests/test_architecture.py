"""Architecture: which imports are allowed, what no file may contain, what configs and scripts have."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from package_diagram import FLOORS, circles, drawing, floor, goes_up, imports, module_name, nodes, read_packages, table
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("mgen", "rewards", "critics")
# The library knows no particular reward or critic: only these two floors import them.
KNOW_JUDGES = {"workflows", "cli"}
UNSAFE_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
UNSAFE_KEYWORDS = {"trust_remote_code": False, "allow_pickle": False, "weights_only": True}
MACHINE_PATH = re.compile(r"(?<![\w.~}-])/(?:home|Users|root|work|farm|mnt|media|scratch|data|workspace)/[\w.-]")
CONFIG_COMMAND = re.compile(r"# (?:mgen|accelerate launch|make) ")
CONFIG_MACHINE = re.compile(r"# .*\b(?:cores?|CPU|GPU|H200|H100|A100)\b")
CONFIG_TIME = re.compile(r"# .*(?:\d ?(?:s|min|h|seconds|minutes|hours)\b|\bnot run\b.* yet\b)")


def python_files(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def relative(path):
    return path.relative_to(ROOT).as_posix()


def faults(check, files):
    """What a check finds in each file where it finds something; one test per file would take longer to set up."""
    return {relative(path): found for path in files if (found := check(path))}


def module(path):
    return module_name(path.relative_to(ROOT))


def names_in(source, package=""):
    """Full names that a module imports, wherever in it; `package` is what its relative imports start from."""
    return set().union(*imports(source, package))


tree = functools.cache(ast.parse)


def wrong_arrows(module, source, is_package=False):
    """Imports of `module` that go up, or that reach a reward or critic from a floor that must not know them."""
    if module == "mgen":  # the front: exports the calls of `mgen.workflows`
        return []
    here = floor(module)
    package = module if is_package else module.rpartition(".")[0]
    wrong = []
    for name in names_in(source, package):
        there = floor(name)
        if there is None or there == here:
            continue
        up = goes_up(here, there)
        judges = there in {"rewards", "critics"} and here not in KNOW_JUDGES
        past = here == "scripts" and there != "cli"
        if up or judges or past:
            wrong.append(name)
    return sorted(wrong)


def unsafe(source):
    """Lines that would run code from a file: pickles, remote code, unrestricted loading."""
    found = sorted(name for name in names_in(source) if name.split(".")[0] in UNSAFE_MODULES)
    for node in nodes(source):
        if isinstance(node, ast.keyword) and node.arg in UNSAFE_KEYWORDS:
            if not isinstance(node.value, ast.Constant) or node.value.value is not UNSAFE_KEYWORDS[node.arg]:
                found.append(f"line {node.value.lineno}: {node.arg}")
        elif isinstance(node, ast.Attribute) and node.attr in {"read_pickle", "to_pickle"}:
            found.append(f"line {node.lineno}: {node.attr}")
    return found


def test_imports_point_one_way():
    def wrong(path):
        return wrong_arrows(module(path), path.read_text(), path.name == "__init__.py")

    assert faults(wrong, python_files(*PACKAGES, "scripts")) == {}


@pytest.mark.parametrize(
    ("module", "line", "wrong"),
    [
        ("mgen.rl.loop", "import rewards", ["rewards"]),
        ("mgen.rl.loop", "def f():\n    from critics.style import StyleCritic", ["critics.style.StyleCritic"]),
        ("mgen.rl.loop", "from mgen import cli", ["mgen.cli"]),
        ("mgen.rl.loop", "from ..cli import options", ["mgen.cli.options"]),
        ("mgen.music.metrics", "from mgen.stats.intervals import Interval", ["mgen.stats.intervals.Interval"]),
        ("mgen.corpus.insight", "from mgen.evaluation import report", ["mgen.evaluation.report"]),
        ("mgen.evaluation.protocol", "from critics import CRITICS", ["critics.CRITICS"]),
        ("mgen.notes", "from mgen.music import ngrams", ["mgen.music.ngrams"]),
        ("rewards.bands", "from critics import style", ["critics.style"]),
        ("critics.style", "from rewards.bands import Band", ["rewards.bands.Band"]),
        ("scripts.finetune", "from mgen.rl import credit", ["mgen.rl.credit"]),
        ("mgen.cli.finetune", "import rewards, critics, mgen.notes, numpy", []),
        ("mgen.rl.loop", "from .credit import credit\nimport mgen.notes, mgen.sampling", []),
    ],
)
def test_a_wrong_arrow_is_seen(module, line, wrong):
    assert wrong_arrows(module, line) == wrong


def test_every_package_has_a_floor():
    folders = {path.parent.name for path in (ROOT / "mgen").glob("*/*.py")}
    assert sorted(folders - set(FLOORS)) == []
    modules = python_files(*PACKAGES)
    assert sorted({relative(path.parent) for path in modules if not (path.parent / "__init__.py").is_file()}) == []


def test_packages_form_no_circle_and_the_diagram_shows_them():
    size, edges = read_packages(ROOT)
    assert circles(edges) == []
    assert table(size, edges).endswith("going up: 0\ncircles of packages: none")
    labels = [element.text for element in ElementTree.fromstring(drawing(size, edges)).iter() if element.text]
    assert set(size) <= set(labels)


def test_a_circle_and_an_import_that_goes_up_are_seen():
    edges = Counter({("rl", "training"): 2, ("training", "runs"): 1, ("runs", "rl"): 4, ("cli", "rl"): 1})
    assert circles(edges) == [{"rl", "training", "runs"}]
    size = dict.fromkeys(("cli", "rl", "training", "runs"), (1, 10))
    assert "rl 4 UP" in table(size, edges)
    assert "going up: 4" in table(size, edges)


def test_nothing_that_is_read_can_run_code():
    assert faults(lambda path: unsafe(path.read_text()), python_files(*PACKAGES, "scripts", "tests")) == {}


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("import pickle", 1),
        ("from joblib import dump", 1),
        ("AutoModel.from_pretrained(name, trust_remote_code=flag)", 1),
        ("torch.load(path, weights_only=False)", 1),
        ("np.load(path, allow_pickle=bool(1))", 1),
        ("frame.to_pickle(path)", 1),
        ("torch.load(path, weights_only=True); AutoModel.from_pretrained(name, trust_remote_code=False)", 0),
    ],
)
def test_what_could_run_code_is_seen(source, count):
    assert len(unsafe(source)) == count


def test_torch_load_always_says_weights_only():
    calls = [
        (relative(path), node.lineno, {keyword.arg for keyword in node.keywords})
        for path in python_files(*PACKAGES, "scripts")
        for node in nodes(path.read_text())
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    ]
    assert [call for call in calls if "weights_only" not in call[2]] == []


def test_loaders_of_transformers_are_never_trusted():
    """By itself transformers asks on the terminal whether to run the code of a folder."""
    own = {"cls", "Remi", "StyleCritic", "FeatureDiscriminator", "TokenDiscriminator", "SequenceCritic"}  # of mgen
    calls = [
        (relative(path), node.lineno, {keyword.arg for keyword in node.keywords})
        for path in python_files(*PACKAGES, "scripts")
        for node in nodes(path.read_text())
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"from_pretrained", "from_config"}
        and ast.unparse(node.func.value) not in own
    ]
    assert calls and [call for call in calls if "trust_remote_code" not in call[2]] == []


def text_files():
    folders = (*PACKAGES, "scripts", "tests", "configs", "docs", "examples", ".ci")
    suffixes = {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".jinja", ".html", ".css", ".js", ""}
    inside = [path for folder in folders for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
    files = [path for path in [*inside, *ROOT.glob("*")] if path.is_file() and path.suffix in suffixes]
    return sorted({path for path in files if path.name != ".git"})


def test_no_file_names_a_path_of_one_machine():
    found = [
        f"{relative(path)}:{number}: {line.strip()[:80]}"
        for path in text_files()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


def test_a_path_of_one_machine_is_seen():
    for path in ("home", "work", "Users", "root"):
        assert MACHINE_PATH.search(f'open("/{path}/somebody/music")')
    for line in (
        "rewards/credit over work/collection",
        "https://example.org/home/page",
        "runs/data/x",
        "~/data/x",
    ):
        assert not MACHINE_PATH.search(line)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.y*ml")), ids=relative)
def test_a_config_opens_with_its_command_machine_and_time(path):
    lines = path.read_text().splitlines()
    heading = lines[: next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))]
    assert heading, "no comment at the top"
    assert CONFIG_COMMAND.match(heading[0]), heading[0]
    assert any(CONFIG_MACHINE.match(line) for line in heading[1:]), "no machine, such as '# 2 cores, 12 min'"
    assert any(CONFIG_TIME.match(line) for line in heading[1:]), "no time, such as '# 2 cores, 12 min'"
    named = re.findall(r"--config_file (\S+)", heading[0]) or re.findall(r"--config (\S+)", heading[0])
    assert named in ([], [relative(path)]), "the command names another config"


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "accelerate").glob("*.yaml")), ids=relative)
def test_accelerate_reads_its_configs(path):
    assert load_config_from_file(str(path)).mixed_precision == "no"  # which the commands choose themselves


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "cluster").glob("*.sh")), ids=relative)
def test_a_job_script_is_a_shell_script(path):
    assert subprocess.run(["bash", "-n", str(path)], capture_output=True, check=False).stderr == b""
    example, *named = path.read_text().splitlines()[1:4]
    commands = re.findall(rf"{path.name} (\w+)", example) + re.findall(r"scripts/(\w+)\.py", " ".join(named))
    assert len(commands) == 3 and all((ROOT / "scripts" / f"{command}.py").is_file() for command in commands)


def test_tests_lie_flat_and_are_collected():
    """A package in tests/ would hide the package of the same name; a test in another file would never run."""
    inside = python_files("tests")
    assert [relative(path) for path in inside if path.parent.name != "tests" or path.name == "__init__.py"] == []
    others = [path for path in inside if not re.fullmatch(r"test_\w+\.py", path.name)]
    assert [relative(path) for path in others if re.search(r"^ *def test_", path.read_text(), re.M)] == []


def test_every_module_says_what_it_is():
    files = python_files(*PACKAGES, "scripts")
    assert [relative(path) for path in files if not ast.get_docstring(tree(path.read_text()))] == []


@pytest.mark.parametrize("path", python_files("scripts"), ids=relative)
def test_a_script_only_calls_a_command(path):
    body = tree(path.read_text()).body[1:]
    assert {ast.unparse(node) for node in body} == {
        f"from mgen.cli.{path.stem} import main",
        "from mgen.cli.main import run",
        "if __name__ == '__main__':\n    raise SystemExit(run(main))",
    }


def test_every_command_has_a_main():
    from mgen.cli.main import COMMANDS

    for command in COMMANDS:
        path = ROOT / "mgen" / "cli" / f"{command}.py"
        assert path.is_file(), f"mgen {command} has no module"
        body = tree(path.read_text()).body
        assert any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in body), relative(path)


def pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def project():
    return pyproject()["project"]


def test_every_config_is_installed():
    listed = [name for names in pyproject()["tool"]["setuptools"]["data-files"].values() for name in names]
    shipped = {path for pattern in listed for path in ROOT.glob(pattern)}
    assert sorted(relative(path) for path in set((ROOT / "configs").rglob("*.y*ml")) - shipped) == []


def requirements(*extras):
    """Names of the distributions that `pip install mgen-music` brings, or with extras what those add."""
    lines = [project()["optional-dependencies"][extra] for extra in extras] or [project()["dependencies"]]
    return {canonicalize_name(Requirement(line).name) for names in lines for line in names}


owners = functools.cache(importlib.metadata.packages_distributions)


def distributions(top):
    """Names of the distributions that bring a top-level package."""
    known = {"fluidsynth": ["pyfluidsynth"], **owners()}
    return {canonicalize_name(name) for name in known.get(top, [top])}


def other_projects(source, package=""):
    """Top-level packages of other projects that a module imports, also through `import_extra` and `import_module`."""
    names = names_in(source, package)
    calls = [node for node in nodes(source) if isinstance(node, ast.Call) and node.args]
    late = [node for node in calls if ast.unparse(node.func).endswith(("import_extra", "import_module"))]
    names |= {node.args[0].value for node in late if isinstance(node.args[0], ast.Constant)}
    if any(name.startswith("torch.utils.tensorboard") for name in names):
        names |= {"tensorboard"}
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names - {*PACKAGES, ""}


EXTRAS = ("audio", "dev", "docs", "graph", "listen", "musicxml", "ray", "tabs", "tensorboard", "trackio", "wandb")


def test_every_import_is_a_declared_dependency():
    declared = requirements() | requirements(*EXTRAS)
    missing = [
        f"{relative(path)}: {top}"
        for path in python_files(*PACKAGES)
        for top in other_projects(path.read_text(), module(path))
        if not distributions(top) & declared
    ]
    assert sorted(missing) == []


def test_every_declared_dependency_is_imported():
    assert set(EXTRAS) == set(project()["optional-dependencies"])
    tops = set().union(*(other_projects(path.read_text()) for path in python_files(*PACKAGES)))
    used = set().union(*map(distributions, tops))
    assert sorted(requirements() - used) == []
    assert sorted(requirements(*{*EXTRAS} - {"dev", "docs"}) - used) == []


def test_everything_that_tests_import_is_installed_with_dev():
    declared = requirements() | requirements(*EXTRAS)
    files = python_files("tests", "docs")
    tops = set().union(*(names_in(path.read_text()) for path in files))
    tops = {name.split(".")[0] for name in tops} - sys.stdlib_module_names - {*PACKAGES, *(path.stem for path in files)}
    assert sorted(top for top in tops if not distributions(top) & declared) == []


def test_constraints_pin_a_version_that_each_requirement_allows():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    pins = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}
    assert all(pins.values()), "a line is no pin"
    extras = [line for lines in project()["optional-dependencies"].values() for line in lines]
    for requirement in map(Requirement, [*project()["dependencies"], *extras]):
        if requirement.name in {"mgen-music", "pyfluidsynth", "wandb"}:  # itself, and extras that `dev` leaves out
            continue
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin, f"{requirement.name} has no pin"
        assert requirement.specifier.contains(Version(pin)), f"{requirement} does not allow {pin}"


PRIVATE_WORDS = re.compile(r"\b(?:told|untold|heard|hears|unheard|anew|rivals?)\b", re.I)
MAX_PRIVATE = 15  # lines: this table, old names that are refused, and a JSON key of `mgen bench` that has to stay


def test_text_uses_the_terms_of_the_field():
    files = [
        path for path in text_files() if relative(path) not in {"CHANGELOG.md", "docs/log.md", "docs/cards/cards.md"}
    ]
    found = [
        f"{relative(path)}:{number}: {line.strip()[:80]}"
        for path in files
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if PRIVATE_WORDS.search(line)
    ]
    assert len(found) <= MAX_PRIVATE, "\n".join(found)


def test_the_readme_names_commands_and_files_that_exist():
    from mgen.cli.main import COMMANDS

    text = (ROOT / "README.md").read_text()
    assert {"demo", "test", "install"} <= set(re.findall(r"\bmake (\w+)", text))
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.S))
    named = set(re.findall(r"^mgen (\w+)", blocks, re.M)) | set(re.findall(r"`mgen (\w+)", text))
    assert {"prepare", "evaluate"} <= named <= set(COMMANDS)
    files = re.findall(r"configs/[\w/]+\.yaml|scripts/\w+\.py", text) + re.findall(r"\]\(([\w./]+)\)", text)
    assert [name for name in files if not (ROOT / name).is_file()] == []
