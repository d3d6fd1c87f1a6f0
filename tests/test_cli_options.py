"""Options: YAML, command line, and errors."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from mgen.cli.main import run
from mgen.cli.options import parse
from mgen.errors import MgenError
from mgen.options import as_dict


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
    assert "runs/a/model: No space left on device" in capsys.readouterr().err
