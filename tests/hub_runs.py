"""Finished runs and an evaluation as the commands leave them, without any training."""

from __future__ import annotations

import json
from dataclasses import replace

from mgen.runs.run import Run

HOME = "/home" + "/grace/secret music"  # a folder of somebody's machine, to be found nowhere


def cell(value, low=None, high=None):
    return {"value": value, "low": value if low is None else low, "high": value if high is None else high}


def policy_run(folder, policy, remi, command="finetune", **changes):
    """A run with a model of this policy."""
    config = {
        "policy": f"{HOME}/runs/base/model",
        "corpus": f"{HOME}/corpus",
        "out": str(folder),
        "output_dir": f"{folder}/checkpoints",
        "target": "jazz",
        "kl_weight": 0.5,
        "judges": ["style=1", "realism=0.5"],
        "hub_token": "hf_" + "x" * 34,
        "max_steps": 60,
    }
    run = Run.open(folder, command, config | changes, seed=7, data="feedfacefeedface")
    run.save_model(policy, remi)
    (folder / "metrics.jsonl").write_text('{"step": 1, "policy/kl": 0.5}\n')
    run.finish(steps=60, parameters=policy.num_parameters(), last={"policy/kl": 3.25, "entropy": 1.5})
    return folder


def critic_run(folder, remi):
    """A run with an untrained style critic, and a card."""
    from critics_music import MEDIANS

    from critics.sequence import SequenceCritic
    from critics.style import StyleCritic
    from critics.style.critic import TokenModel
    from mgen.stats.calibration import Calibration

    config = {"corpus": f"{HOME}/corpus", "target": "jazz", "out": str(folder), "retime": True}
    run = Run.open(folder, "critic", config, seed=7, data="feedfacefeedface")
    network = SequenceCritic.new(remi, size="tiny", max_tokens=64, label="jazz")
    critic = StyleCritic(TokenModel(network, Calibration(scale=0.5, bias=0.25), MEDIANS), "jazz")
    critic.save_pretrained(run.model_folder, trained_on={"data": "feedfacefeedface", "collections": {"jazz": ["a|b"]}})
    card = critic_card()
    (folder / "card.json").write_text(json.dumps(card))
    run.finish(card=card, parameters=network.model.num_parameters())
    return folder


def feature_critic_run(folder):
    """A run with a feature critic trained on two toy styles for a moment, and a card."""
    import numpy as np
    from critics_music import STRAIGHT, SWUNG, toy

    from critics.style import StyleCritic
    from critics.style.by_length import ByLength
    from critics.style.ensemble import Member, TrainingSet, feature_table
    from critics.style.feature_model import FeatureModel
    from mgen.notes import Notes
    from mgen.transforms.hard_negatives import HARD_NEGATIVES

    config = {"corpus": f"{HOME}/corpus", "target": "jazz", "out": str(folder), "input": "features", "init": ""}
    config |= {"hacked": [f"{HOME}/runs/jazz/model"]}
    run = Run.open(folder, "critic", config, seed=7, data="feedfacefeedface")
    rng = np.random.default_rng(0)
    real = Notes.concat([toy(SWUNG, 24, rng), toy(STRAIGHT, 24, rng)])
    yes = np.tile(np.arange(48) < 24, 2)
    table = np.concatenate([feature_table(real), feature_table(HARD_NEGATIVES["one_pitch"](real, rng))])
    material = TrainingSet(table, yes, np.repeat(["", "one_pitch"], 48), np.ones(96))
    members = (Member("style", "pitch", (), steps=20), Member("intact", "transitions", ("one_pitch",), steps=20))
    model = FeatureModel.fit(material, material, members)
    far = ByLength(np.ones(1), np.full(1, 1e6))  # so few pieces do not say what is unlike them
    critic = StyleCritic(
        replace(model, guard=replace(model.guard, limit=dict.fromkeys(model.guard.limit, far))), "jazz"
    )
    about = {
        "collections": {"jazz": ["a|b"]},
        "negatives": ["one_pitch"],
        "excerpts": 1048,
        "works": 48,
        "lengths": [32],
    }
    critic.save_pretrained(run.model_folder, trained_on={"data": "feedfacefeedface", **about})
    card = critic_card()
    left_out = {"above_median": 0.004, "change": -6.5, "abstained": 0.25}
    part = {"n": 64, "auc": cell(0.9, 0.8, 0.95), "accuracy": cell(0.8), "ece": 0.04}
    card = {
        **{key: value for key, value in card.items() if key != "valid"},
        "input": "features",
        "by_length": {"24": part, "256": part},
        "degenerate_inputs": {"100": {"one_pitch": {"n": 1000, "trained": None, "left_out": left_out}}},
    }
    (folder / "card.json").write_text(json.dumps(card))
    (folder / "reliability.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    run.finish(card=card, parameters=critic.model.parameters)
    return folder


def critic_card():
    return {
        "positive": "jazz",
        "valid": {"n": 64, "scale": 0.5, "bias": 0.25, "ece_raw": 0.2, "ece": 0.02},
        "test": {
            "n": 128,
            "works": 40,
            "auc": cell(0.9, 0.85, 0.94),
            "accuracy": cell(0.8, 0.7, 0.9),
            "ece": 0.03,
            "abstained": {"positive": 0.015, "other": 0.25},
            "reliability": [
                {"predicted": 0.125, "observed": 0.25, "n": 40},
                {"predicted": 0.9, "observed": 1.0, "n": 88},
            ],
            "score": {"positive": cell(-0.3), "other": cell(-2.5)},
            "pairs": {"a|b": {"folk": cell(0.95, 0.9, 0.99), "pop": cell(0.61, 0.5, 0.72)}},
            "format": {"humanised": cell(-0.1, -0.2, 0.0)},
            "corrupted": {"random_pitches": cell(-4.0, -4.4, -3.6)},
        },
    }


def metrics():
    """metrics.json of `mgen evaluate`: the tuned model is less real, loops more when greedy, and is more jazz."""
    rows = {
        "real": {
            "continuation": {
                "c2st_auc": cell(0.5, 0.45, 0.55),
                "judge_jazz": cell(0.9, 0.85, 0.95),
                "rep4": cell(0.14),
            },
            "transfer": {"c2st_auc": cell(0.99), "judge_jazz": cell(0.1, 0.05, 0.15), "rep4": cell(0.3)},
        },
        "base": {
            prompt_type: {
                "c2st_auc": cell(0.6, 0.57, 0.63),
                "judge_jazz": cell(0.2, 0.15, 0.25),
                "rep4": cell(0.05, 0.04, 0.06),
                "loop_rate_greedy": cell(0.23, 0.14, 0.34),
                "kl_piece": cell(0.0),
            }
            for prompt_type in ("continuation", "transfer")
        },
        "jazz": {
            prompt_type: {
                "c2st_auc": cell(0.9712345, 0.95, 0.99),
                "judge_jazz": cell(0.6, 0.5, 0.7),
                "rep4": cell(None, None, None),
                "loop_rate_greedy": cell(0.55, 0.42, 0.67),
                "kl_piece": cell(11.9, 11.3, 12.5),
            }
            for prompt_type in ("continuation", "transfer")
        },
        "order 1 | chain": {"continuation": {"c2st_auc": cell(1.0), "judge_jazz": cell(0.1)}},
    }
    protocol = {"n": 256, "target": "jazz", "prompt_tokens": 64, "completion_tokens": 192, "data": "feedfacefeedface"}
    out = {"protocol": protocol, "judge_auc": cell(0.93, 0.9, 0.95), "rows": rows, "seconds": 1.0}
    out["systems"] = {"real": "real", "base": "pretrained", "jazz": "tuned", "order 1 | chain": "baseline"}
    out["corpus"] = {
        "fingerprint": "feedfacefeedface",
        "collections": {"weimar": {"train": 300, "test": 50}, "<b>folk</b>": {"train": 500, "test": 90}},
        "pieces": {"jazz": {"train": 300, "test": 50}},
    }
    return out


def evaluation(folder, remi=None):
    """An evaluation's folder; with `remi`, with samples of every system in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics()))
    if remi is not None:
        from mgen.hub.model_card import example
        from mgen.sampling.samples import SamplePrompt, write_samples

        music = remi.tokenizer()(example(remi), add_special_tokens=False)["input_ids"][:-1]
        head = [remi.bos_id, remi.style_ids["jazz"]]
        prompts = [SamplePrompt("continuation/0000", "continuation", "work", [*head, *music])]
        prompts += [SamplePrompt(f"unconditional/{i:04d}", "unconditional", "", head) for i in range(4)]
        pieces = {"real": 1, "base": 2, "jazz": 3}
        completions = {system: [music * bars for _ in prompts] for system, bars in pieces.items()}
        completions["jazz"][1] = [remi.bar_id]  # no note
        write_samples(folder / "samples", "jazz", prompts, completions, remi)
    return folder
