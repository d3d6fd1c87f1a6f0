"""Options: YAML, command line, and errors."""

from __future__ import annotations

import argparse
import importlib
import re
import subprocess
import sys
from dataclasses import dataclass, field, fields

import numpy as np
import pytest
import yaml

from mgen.cli import configs
from mgen.cli.main import COMMANDS, run
from mgen.cli.options import config_as, parse, short_help
from mgen.cli.stored_help import all_helps, print_help, stored_help
from mgen.errors import MgenError
from mgen.option_limits import INHERITED
from mgen.options import as_dict, check_values, from_keywords, option
from mgen.workflows.critic import CriticConfig
from mgen.workflows.finetune import FinetuneConfig
from mgen.workflows.grpo import GrpoConfig
from mgen.workflows.prefer import PolicyConfig, RewardModelConfig
from mgen.workflows.pretrain import PretrainConfig


@dataclass
class Options:
    """For the tests."""

    learning_rate: float = field(default=1.0, metadata={"help": "a rate"})
    judges: list[str] = field(default_factory=lambda: ["style=1"], metadata={"help": "judges"})

    def __post_init__(self) -> None:
        if self.learning_rate < 0:
            raise ValueError(f"learning_rate ({self.learning_rate}) must be at least 0")


def read(*words):
    (options,) = parse(words, Options, doc="mgen test")
    return options


def test_the_command_line_goes_over_the_file(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("learning_rate: 1e-5\njudges: [style=1, realism=2]\n")
    assert read("--config", str(path)).learning_rate == 1e-5
    options = read("--config", str(path), "--learning_rate", "2e-4")
    assert options.learning_rate == 2e-4 and options.judges == ["style=1", "realism=2"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--learning_rat", "1"], "no option 'learning_rat'; did you mean 'learning_rate'"),
        (["--learning_rate", "fast"], "learning_rate"),
        (["--learning_rate", "-1"], "must be at least 0"),
        (["--config"], "after it"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_mistakes_are_one_line(words, message):
    with pytest.raises(MgenError, match=message) as caught:
        read(*words)
    assert "\n" not in str(caught.value)


def test_a_config_by_name_and_with_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.setattr(configs, "CONFIGS", tmp_path / "configs")
    (tmp_path / "configs" / "test").mkdir(parents=True)
    (tmp_path / "configs" / "test" / "laptop.yaml").write_text("learning_rate: 0.25\n")
    assert read("--config", "laptop").learning_rate == 0.25
    assert read("--config=laptop", "--learning_rate=2").learning_rate == 2
    assert config_as("grid", ["--config=laptop", "--out", "o"], "test")[:1] == ["--grid"]
    with pytest.raises(MgenError, match=r"nowhere: .*, or the name of a recipe: laptop") as caught:
        read("--config", "nowhere")
    assert "\n" not in str(caught.value)
    own = tmp_path / "laptop"  # a file of that name comes first
    own.write_text("learning_rate: 0.5\n")
    monkeypatch.chdir(tmp_path)
    assert read("--config", "laptop").learning_rate == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rte: 1\n", "Options has no option 'learning_rte'; did you mean 'learning_rate'"),
        ("- 1\n", "expected `key: value`"),
        ("a: [\n", "not YAML"),
    ],
)
def test_mistakes_in_a_file_name_the_file(tmp_path, text, message):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(MgenError, match=message) as caught:
        read("--config", str(path))
    assert "a.yaml" in str(caught.value) and "\n" not in str(caught.value)


@dataclass
class Limited:
    """Options of all types."""

    context: int = option(8, "whole", least=1)
    sizes: list[int] = option([1], "several", least=1)
    rate: float = option(0.5, "number", above=0, most=1)
    steps: int | None = option(None, "or none", least=0)
    fast: bool = option(False, "yes or no")
    folder: str = option("", "text")
    kind: str = option("a", "word", words=("a", "b"))
    seed: int = option(0, "as in all commands")
    judges: list[str] = option([], "words or mappings", mapping=True)
    names: list[str] = option([], "words")


WRONG = [
    ("context", "272.5", "(272.5) must be a whole number"),
    ("context", "0", "(0) must be at least 1"),
    ("context", "many", "(many) must be a whole number"),
    ("context", "1000000000000000", "(1e+15) must be at most 2147483647"),
    ("sizes", "0", "(0) must be at least 1"),
    ("sizes", "x", "(x) must be a whole number"),
    ("rate", "0", "(0) must be above 0 and at most 1"),
    ("rate", "1.5", "(1.5) must be above 0 and at most 1"),
    ("rate", "fast", "(fast) must be a number"),
    ("steps", "-1", "(-1) must be at least 0"),
    ("steps", "2.5", "(2.5) must be a whole number"),
    ("fast", "perhaps", "(perhaps) must be true or false"),
    ("kind", "c", "'c': expected one of a, b"),
    ("seed", "-1", "(-1) must be between 0 and 4294967295"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
def test_a_wrong_value_is_named_with_its_source_in_all_three_ways(tmp_path, name, value, message):
    path = tmp_path / "a.yaml"
    path.write_text(f"{name}: {value}\n")
    for words, source in ([f"--{name}", value], "mgen test: "), (["--config", str(path)], f"{path}: "):
        with pytest.raises(MgenError) as caught:
            parse(words, Limited, doc="mgen test")
        assert str(caught.value) == f"{source}{name} {message}"
    typed = yaml.safe_load(value)
    with pytest.raises(MgenError) as caught:
        from_keywords(Limited, "test", {name: typed})
    assert str(caught.value) == f"mgen.test: {name} {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("context: true", "context (True) must be a whole number"),
        ("context:", "context (None) must be a whole number"),
        ("context: [8]", "context ([8]) must be a whole number"),
        ("rate: .nan", "rate (nan) must be a number"),
        ("rate: .inf", "rate (inf) must be a number"),
        ("rate: {}", "rate ({}) must be a number"),
        ("fast: 2", "fast (2) must be true or false"),
        ("folder: 2020", "folder (2020) must be text"),
        ("sizes: [1, 2.5]", "sizes (2.5) must be a whole number"),
        ("sizes: null", "sizes (None) must be a whole number"),
        ("names: [{a: 1}]", "names ({'a': 1}) must be text"),
        ("files: 5", "files (5) must be text"),
    ],
)
def test_a_value_of_another_type_is_refused(tmp_path, text, message):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(MgenError) as caught:
        parse(["--config", str(path)], Limited, doc="mgen test", arguments={"files": {"nargs": "*"}})
    assert str(caught.value) == f"{path}: {message}"


def test_a_value_becomes_that_of_its_option(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("rate: 1\nsizes: 3\nsteps: null\nfast: 'yes'\njudges: [a=1, {judge: b}]\n")
    (options,) = parse(["--config", str(path), "--context", "9"], Limited, doc="mgen test")
    assert options == Limited(context=9, sizes=[3], rate=1.0, fast=True, judges=["a=1", {"judge": "b"}])
    options = from_keywords(Limited, "test", {"sizes": (3, 4), "folder": tmp_path, "context": np.int64(9)})
    assert options == Limited(context=9, sizes=[3, 4], folder=str(tmp_path))


@pytest.mark.parametrize(
    "kind", [PretrainConfig, CriticConfig, FinetuneConfig, GrpoConfig, PolicyConfig, RewardModelConfig]
)
def test_limits_of_inherited_options_allow_their_defaults(kind):
    for entry in fields(kind):
        limits = INHERITED.get(entry.name)
        if limits is not None and isinstance(entry.default, int | float) and entry.name != "max_steps":  # -1: epochs
            assert limits.problem(entry.default) is None, entry.name
    with pytest.raises(ValueError, match=r"^learning_rate \(nan\) must be a number"):
        check_values(kind, {"learning_rate": float("nan")})


def test_every_inherited_limit_is_of_an_option():
    known = {
        entry.name
        for kind in (PretrainConfig, FinetuneConfig, GrpoConfig, PolicyConfig, RewardModelConfig)
        for entry in fields(kind)
    }
    assert set(INHERITED) <= known


def test_a_config_as_used_keeps_what_differs():
    assert as_dict(read("--learning_rate", "0.5")) == {"learning_rate": 0.5, "judges": ["style=1"]}


def test_errors_become_a_line_and_exit_code_2(capsys):
    def fail(words):
        raise MgenError("a clear line")

    assert run(fail, []) == 2
    assert capsys.readouterr().err == "mgen: a clear line\n"
    with pytest.raises(MgenError):
        run(fail, ["--debug"])


def test_a_full_disk_is_a_line(capsys):
    def fail(words):
        raise OSError(28, "No space left on device", "runs/a/model")

    assert run(fail, []) == 2
    assert "runs/a/model: no space left on the device" in capsys.readouterr().err


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("demo", "recipe")])
def test_help_is_short_and_help_all_is_complete(command, capsys):
    main = importlib.import_module(f"mgen.cli.{command}").main
    texts = []
    for word in ("--help", "--help-all"):
        with pytest.raises(SystemExit) as left:
            main([word])
        assert left.value.code == 0
        texts.append(capsys.readouterr().out)
    lines = texts[0].splitlines()
    assert len(lines) <= 80 and max(map(len, lines[2:])) <= 120
    assert lines[0] == f"usage: mgen {command} [--config FILE.yaml] [--OPTION VALUE ...]"
    assert f"{lines[1]} ".startswith(f"example: mgen {command} ")
    words = {line.split()[0] for line in lines[3:-2] if line.startswith("--")}
    assert {word for word in words if not word.endswith("_...")} <= set(re.findall(r"--\w+", texts[1]))


def test_help_folds_the_largest_family_when_there_are_too_many():
    parser = argparse.ArgumentParser(prog="mgen x")
    for name in ("seed", "kl_step", "kl_weight", "kl_stop", "rate_a", "rate_b"):
        parser.add_argument(f"--{name}", default=1, help="What it is. More of it.")
    text = short_help("mgen x", "example: mgen x", parser._actions, [], most=13)
    assert [line.split(maxsplit=2) for line in text.splitlines()[3:-2]] == [
        ["--seed", "1", "What it is"],
        ["--kl_...", "3", "options, in YAML also kl: {...}; see --help-all"],
        ["--rate_a", "1", "What it is"],
        ["--rate_b", "1", "What it is"],
    ]


@dataclass
class Grouped:
    """Options with a common prefix."""

    realism_steps: int = option(2, "a count", least=1)
    realism_fit: str = option("logistic", "a word", words=("logistic", "moments"))
    sample: int = option(1, "also a prefix")
    sample_steps: int = option(3, "a count")
    kwargs: dict[str, int] = field(default_factory=dict, metadata={"help": "takes a mapping"})
    kwargs_of: int = option(0, "a neighbour of it")


def test_a_nested_group_is_its_prefixed_options_in_a_file_and_in_a_call(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("realism: {steps: 5, fit: moments}\nsample: 4\nsample_steps: 6\n")
    (options,) = parse(["--config", str(path), "--realism_steps", "7"], Grouped, doc="mgen test")
    assert (options.realism_steps, options.realism_fit, options.sample, options.sample_steps) == (7, "moments", 4, 6)
    called = from_keywords(Grouped, "test", {"realism": {"steps": 5}, "sample": {"steps": 9}, "kwargs": {"of": 1}})
    assert (called.realism_steps, called.sample_steps, called.kwargs, called.kwargs_of) == (5, 9, {"of": 1}, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("realism: {stpes: 2}", "realism: {stpes: ...}: no such option; did you mean 'steps'?"),
        ("realism: {steps: 2}\nrealism_steps: 3", "realism_steps is there twice, in a group and by itself"),
        ("realism: {steps: 0}", "realism_steps (0) must be at least 1"),
        ("realims: {steps: 2}", "Grouped has no option 'realims'"),
        ("env: 3", "env: expected NAME: value lines, found 3"),
    ],
)
def test_a_mistake_in_a_group_names_the_file_and_the_place(text, message, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(MgenError) as caught:
        parse(["--config", str(path)], Grouped, doc="mgen test")
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("words", all_helps(), ids="_".join)
def test_the_stored_help_is_that_of_the_command(words):
    """After a change of options: python -m mgen.cli.stored_help."""
    command, *kind = words
    stored = stored_help(command, [*kind, "--help"])
    printed = print_help(*words)
    assert re.sub(r"\d+ more", "N more", stored) == re.sub(r"\d+ more", "N more", printed)  # by version of transformers
    assert len(printed.splitlines()) <= 80


def test_other_words_than_help_are_left_to_the_command():
    assert stored_help("finetune", ["--help-all"]) is stored_help("finetune", []) is None
    assert stored_help("prefer", ["--method", "reward", "--help"]) is None


def test_help_of_a_command_imports_no_torch():
    program = "import sys; from mgen.cli.main import entry; sys.argv[1:] = ['finetune', '--help']\n"
    program += "try: entry()\nexcept SystemExit: pass\nprint(sorted({'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "KL and learning rate:" in done.stdout and done.stdout.splitlines()[-1] == "[]"
