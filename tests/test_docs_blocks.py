"""Every code block of README and docs: commands parse, Python runs on the output of a small loop."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
import tomllib
from functools import partial
from pathlib import Path

import pytest

from mgen.cli.main import COMMANDS
from mgen.errors import MgenError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "examples" / "own_judge" / "README.md"]
PAGES += [path for path in sorted((ROOT / "docs").glob("*.md")) if path.name != "log.md"]  # the log quotes old commands
NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))


def cells(notebook, kind):
    return ["".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == kind]


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def command_lines():
    """(page, words) of every command line in the shell blocks."""
    texts = [(page, page.read_text()) for page in PAGES]
    texts += [(notebook, "\n".join(cells(notebook, "markdown"))) for notebook in NOTEBOOKS]
    for page, text in texts:
        for block in blocks(text, "bash"):
            for line in re.sub(r"\\\n\s*", " ", block).splitlines():
                if words := shlex.split(line, comments=True):
                    yield pytest.param(words, id=f"{page.stem}: {' '.join(words)[:60]}")


class Parsed(Exception):
    """Stops a command once its options are read."""


def parse_only(command, words, monkeypatch):
    """Runs a command as far as its options; a mistake in them is an MgenError."""
    assert command in COMMANDS
    module = importlib.import_module(f"mgen.cli.{command}")
    real = module.parse

    def parse(*arguments, **keywords):
        real(*arguments, **keywords)
        raise Parsed

    monkeypatch.setattr(module, "parse", parse)
    with pytest.raises(Parsed):
        module.main(words)


@pytest.mark.parametrize("words", [*command_lines()])
def test_a_command_line_is_accepted(words, monkeypatch):
    monkeypatch.chdir(ROOT)
    script = next((word for word in words if re.fullmatch(r"scripts/\w+\.py", word)), "")
    if words[0] == "mgen":
        parse_only(words[1], words[2:], monkeypatch)
    elif script:
        parse_only(Path(script).stem, words[words.index(script) + 1 :], monkeypatch)
    elif words[0] == "make":
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
        assert {word for word in words[1:] if "=" not in word} <= targets
    elif words[:2] == ["pip", "install"]:
        extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
        asked = {name for word in words[2:] for name in re.findall(r"\[([\w,]+)\]", word)}
        assert {name for group in asked for name in group.split(",")} <= extras
        assert all((ROOT / word).is_dir() for word in words[2:] if word.startswith("./"))
    elif words[0] == "python" and words[1] != "-c":
        assert (ROOT / words[1]).is_file()
    else:
        assert words[0] in {"python", "pytest", "hf", "tensorboard", ".venv/bin/pre-commit"}, words


def test_a_wrong_option_is_seen(monkeypatch):
    words = ["--policy", "base", "--corpus", "corpus", "--out", "run", "--kl_coeff", "1"]
    with pytest.raises(MgenError, match="has no option 'kl_coeff'"):
        parse_only("finetune", words, monkeypatch)


SMALL = {
    "prepare": {"workers": 1, "overwrite": True},
    "pretrain": {"context": 160, "max_steps": 2, "eval_steps": 2, "valid_windows": 4},
    "critic.train_style_critic": {"notes": [24], "pieces": 24, "each": 1},
    "finetune": {"max_steps": 1, "completions": 4, "minibatch": 4, "num_generations": 2, "prompt_tokens": [16]},
    "generate": {"max_new_tokens": 96, "speed": "plain"},
    "evaluate": {"n": 32, "n_greedy": 0, "prompt_tokens": 16, "completion_tokens": 64, "two_sample": False},
    "evaluate.evaluate_folders": {"excerpt_notes": 0, "workers": 1},
    "baseline_tabs": {"max_steps": 2, "window": 10, "width": 8, "use_cpu": True, "report_to": "none"},
}
"""Call of `mgen.workflows` -> options with which it takes seconds."""
SMALL["pretrain"] |= {"use_cpu": True, "report_to": "none", "disable_tqdm": True}
SMALL["finetune"] |= {"use_cpu": True, "report_to": "none", "max_completion_length": 32}
SMALL["finetune"] |= {"guard_steps": 0, "check_pieces": 0, "sample_steps": 0, "allow_equal_rewards": True}
SMALL["evaluate"] |= {"prompt_types": ["continuation", "transfer"], "examples": 1}
SMALL["evaluate"] |= {"sequence": False, "baselines": ["none"], "low_cost_baselines": ["none"], "samples": 0}
SMALL_TUTORIALS = {
    "pretrain": {"max_steps": 8, "eval_steps": 8},
    "finetune": {"max_steps": 2, "completions": 16, "minibatch": 16, "num_generations": 4},
    "generate": {"n": 3},
    "evaluate": {"n": 32, "two_sample": False},
}
"""The same for the tutorials, whose own sizes are already small."""
RUNS = ("README.md", "docs/your_music.md", "docs/evaluation.md", "docs/corpus.md", "docs/baselines.md")
"""Pages with Python, in an order in which each finds what it reads."""


def shrink(calls, monkeypatch):
    """Gives calls of `mgen.workflows` these options, whatever the text gives them."""
    for name, options in calls.items():
        module, _, call = name.partition(".")
        module = importlib.import_module(f"mgen.workflows.{module}")
        call = call or module.__name__.rpartition(".")[2]
        monkeypatch.setattr(module, call, partial(_call, getattr(module, call), options))


@pytest.fixture
def small(monkeypatch):
    """Makes the calls of mgen, and training by TRL, small."""
    import trl

    shrink(SMALL, monkeypatch)
    few = {"max_steps": 1, "per_device_train_batch_size": 2, "num_generations": 2, "max_completion_length": 16}
    monkeypatch.setattr(trl, "GRPOConfig", lambda *words, real=trl.GRPOConfig, **o: real(*words, **o | few))


def _call(real, small, *arguments, **options):
    if real.__name__ in ("evaluate", "generate"):  # they want a new folder
        shutil.rmtree(arguments[-1], ignore_errors=True)
    return real(*arguments, **options | small)


def test_python_blocks_run(small, quick_critic, tmp_path, monkeypatch):
    from tab_corpus import learnable

    from mgen.corpus.demo import write_demo_corpus

    monkeypatch.chdir(tmp_path)
    write_demo_corpus(Path("music"), works_per_collection=12)
    assert {page.relative_to(ROOT).as_posix() for page in PAGES if blocks(page.read_text(), "python")} == set(RUNS)
    for page in RUNS:
        if page == "docs/baselines.md":
            shutil.rmtree("corpus")
            learnable(Path("corpus"))
        for number, block in enumerate(blocks((ROOT / page).read_text(), "python"), 1):
            exec(compile(block, f"{page}, block {number}", "exec"), {"__name__": "__main__"})
    assert Path("runs/jazz/model/model.safetensors").is_file() and Path("runs/evaluation/report.html").is_file()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_tutorial_runs(notebook, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    shrink(SMALL_TUTORIALS, monkeypatch)
    space = {"__name__": "__main__"}
    for number, code in enumerate(cells(notebook, "code"), 1):
        exec(compile(code, f"{notebook.name}, code cell {number}", "exec"), space)
    assert capfd.readouterr().out.strip()  # a reader sees results


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_tutorial_is_stored_without_outputs(notebook):
    code = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert any("What to see" in text for text in cells(notebook, "markdown"))


def test_the_site_builds_without_a_warning_and_links_to_no_other_server(tmp_path, monkeypatch):
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install '.[docs]'")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    monkeypatch.chdir(ROOT)
    build(load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(tmp_path / "site")))
    home = (tmp_path / "site" / "index.html").read_text()
    assert "before_after.png" in home and (tmp_path / "site" / "before_after.png").is_file()
    assert "mgen.finetune" in (tmp_path / "site" / "api" / "index.html").read_text()
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"(?:https?:)?//[^\"]+", page.read_text())
        assert [tag for tag in loaded if "canonical" not in tag] == [], page


def test_a_strict_build_refuses_a_broken_link(tmp_path):
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install '.[docs]'")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config
    from mkdocs.exceptions import Abort

    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("[nowhere](nowhere.md)\n")
    (tmp_path / "mkdocs.yml").write_text("site_name: broken\n")
    with pytest.raises(Abort):
        build(load_config(str(tmp_path / "mkdocs.yml"), strict=True, site_dir=str(tmp_path / "site")))
