"""The library calls: plain arguments in, results out, nothing printed."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mgen
from mgen.errors import MgenError

pytestmark = pytest.mark.slow

TINY = {"report_to": "none", "use_cpu": True}


def test_importing_mgen_imports_no_torch():
    program = "import sys, mgen; mgen.__version__, dir(mgen); assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_types_are_installed():
    root = Path(mgen.__file__).parent
    options = tomllib.loads((root.parent / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert (root / "py.typed").is_file() and "py.typed" in options["package-data"]["mgen"]


@pytest.mark.parametrize("name", [name for name in mgen.__all__ if name != "__version__"])
def test_every_call_is_exported(name):
    assert name in dir(mgen) and callable(getattr(mgen, name))
    assert getattr(mgen, name).__module__.startswith("mgen.workflows.")


def test_other_names_are_missing():
    with pytest.raises(AttributeError, match="no attribute 'cook'"):
        mgen.cook  # noqa: B018


@pytest.mark.parametrize(
    ("call", "arguments", "message"),
    [
        ("pretrain", {"corpus": "c", "out": "o", "max_step": 1}, "mgen.pretrain: no option 'max_step'; did you mean"),
        ("finetune", {"policy": "p", "corpus": "c", "out": "o", "form": "nats"}, "'form' was removed: nats is"),
        (
            "finetune",
            {"policy": "p", "corpus": "c", "out": "o", "kl_weight": -1},
            r"kl_weight \(-1\) must be at least 0",
        ),
    ],
)
def test_mistakes_in_a_call_are_one_line(call, arguments, message):
    with pytest.raises(MgenError, match=message) as caught:
        getattr(mgen, call)(**arguments)
    assert "\n" not in str(caught.value)


def test_the_calls_one_after_the_other(small_corpus, tmp_path, capsys):
    """From a corpus to an evaluation, as in a notebook."""
    lines = []
    base = mgen.pretrain(
        small_corpus,
        tmp_path / "base",
        max_steps=20,
        eval_steps=20,
        context=192,
        per_device_train_batch_size=4,
        learning_rate=5e-3,
        valid_windows=8,
        **TINY,
    )
    assert base.steps == 20 and not base.already_finished and base.model.is_dir()
    assert 0 < base.metrics["nats_per_token"] < base.metrics["nats_per_note"]
    critic = mgen.train_style_critic(
        small_corpus,
        tmp_path / "critic",
        input="tokens",
        init=str(base.model),
        max_steps=4,
        eval_steps=4,
        max_tokens=96,
        min_tokens=48,
        prompt_tokens=16,
        valid_excerpts=32,
        test_excerpts=32,
        per_device_train_batch_size=4,
        **TINY,
    )
    options = {
        "critic": str(critic.model),
        "judges": {"grammar": 0.25, "structure_long": 1, "style": 1, "realism": 1},
        "max_steps": 2,
        "max_completion_length": 48,
        "prompt_tokens": [16],
        "completions": 4,
        "minibatch": 4,
        "guard_steps": 0,
        "num_generations": 2,
        "realism_warm_up": 1,
        "check_pieces": 0,
        **TINY,
    }
    tuned = mgen.finetune(base.model, small_corpus, tmp_path / "tuned", progress=lines.append, **options)
    assert tuned.steps == 2 and tuned.model.is_dir() and "policy/kl" in tuned.metrics
    assert len(tuned.notes) == 1 and tuned.notes[0].startswith("judge structure_long is left out")
    assert any("discriminator against current samples" in line for line in lines)
    again = mgen.finetune(base.model, small_corpus, tmp_path / "tuned", **options)
    assert again == dataclasses.replace(tuned, already_finished=True)
    pieces = mgen.generate(tuned.model, tmp_path / "pieces", n=2, style="jazz", max_new_tokens=40)
    assert pieces.notes.n_pieces == 2 and len(list((tmp_path / "pieces").glob("*.mid"))) == 2
    evaluation = mgen.evaluate(
        {"pretrained": base.model, "tuned": tuned.model},
        small_corpus,
        tmp_path / "evaluation",
        n=32,
        seeds=1,
        n_greedy=2,
        prompt_types=["continuation"],
        prompt_tokens=16,
        completion_tokens=64,
        sequence=False,
        baselines=[],
        low_cost_baselines=[],
        examples=1,
        samples=1,
    )
    assert {"pretrained", "tuned", "real"} <= evaluation.facts["rows"].keys()
    assert (tmp_path / "evaluation" / "report.html").is_file()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert not any(words in printed.err for words in ("step", "missing keys", "Writing model shards"))
