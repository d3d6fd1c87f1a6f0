"""Old names: each is refused in one line with the new name, wherever it is given."""

from __future__ import annotations

import importlib

import pytest
import yaml

from mgen.errors import MgenError
from mgen.renames import OPTIONS, REMOVED_JUDGES, REMOVED_OPTIONS, check_run_folder, renamed_option
from mgen.runs.run import Run
from mgen.workflows.judges import JUDGES

TABLE = [(command, old, new) for command, options in OPTIONS.items() for old, new in options.items()]
REMOVED = [(command, old, why) for command, options in REMOVED_OPTIONS.items() for old, why in options.items()]


def run(command, *words):
    return importlib.import_module(f"mgen.cli.{command}").main(list(words))


def refusal(command, *words):
    with pytest.raises(MgenError) as caught:
        run(command, *words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("command", "old", "new"), TABLE)
def test_every_old_option_is_refused_with_the_new_name(command, old, new, tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text(f"{old}: 1\n")
    expected = f"'{new.split()[0]}'"
    for line in (refusal(command, f"--{old}", "1"), refusal(command, "--config", str(path))):
        assert f"option '{old}' is" in line and expected in line
    assert str(path) in line


@pytest.mark.parametrize(("command", "old", "new"), TABLE)
def test_every_new_name_is_an_option_and_no_old_one_is(command, old, new, capsys):
    with pytest.raises(SystemExit):
        run(command, "--help")
    options = {word.strip("[],") for word in capsys.readouterr().out.split() if word.strip("[],").startswith("--")}
    assert f"--{old}" not in options
    assert f"--{new.split()[0]}" in options


@pytest.mark.parametrize(("command", "old", "why"), REMOVED)
def test_every_removed_option_is_refused_with_the_reason(command, old, why, tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text(f"{old}: 1\n")
    for line in (refusal(command, f"--{old}", "1"), refusal(command, "--config", str(path))):
        assert line.endswith(f"option '{old}' was removed: {why}")


def test_removed_judges_are_no_judges():
    assert not set(REMOVED_JUDGES) & set(JUDGES)


def test_other_words_are_not_in_the_table():
    assert renamed_option("finetune", "kl_weight") is None and renamed_option("nothing", "form") is None


def test_a_run_with_old_options_ends_in_the_command_that_makes_it_again(tmp_path):
    folder = tmp_path / "run"
    Run.open(folder, "finetune", {"policy": "runs/base/model", "corpus": "corpus", "form": "nats"})
    with pytest.raises(MgenError, match=r"option 'form' was removed: .*mgen finetune --policy runs/base/model"):
        Run.open(folder, "finetune", {"policy": "runs/base/model", "corpus": "corpus", "kl_weight": 0.5})


def test_a_run_with_an_old_file_in_a_checkpoint_is_refused(tmp_path):
    checkpoint = tmp_path / "checkpoints" / "checkpoint-3"
    checkpoint.mkdir(parents=True)
    (checkpoint / "adversary.pt").write_bytes(b"weights")
    with pytest.raises(MgenError, match=r"'adversary.pt' is now 'discriminator.pt'.*--out NEW_FOLDER"):
        check_run_folder(tmp_path, "finetune", yaml.safe_load("policy: p"))
