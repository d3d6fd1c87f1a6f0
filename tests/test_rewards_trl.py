from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from datasets import Dataset
from rewards_pieces import BANDS
from transformers import LlamaConfig, LlamaForCausalLM
from trl import GRPOConfig, GRPOTrainer

from mgen.encoding.remi import Kind, Remi
from mgen.errors import MgenError
from mgen.judgement import Judgement
from rewards import REWARDS
from rewards.grammar import GrammarGate
from rewards.repetition import LongestRun
from rewards.rule import Band
from rewards.trl import Decoder, TrlReward, trl_rewards

REMI = Remi.build(("jazz", "other"))
VELOCITY, DURATION = (next(n for n in REMI.names if n.startswith(kind)) for kind in ("Velocity", "Duration"))
BAR = ["Bar_None", "TimeSig_4/4", "Position_0"]
PROMPT = ["BOS_None", "JAZZ_None", *BAR, "Pitch_50", VELOCITY, DURATION]


def _ids(names: list[str]) -> list[int]:
    return [REMI.names.index(name) for name in names]


def _bar(pitch: int) -> list[str]:
    return [*BAR, f"Pitch_{pitch}", VELOCITY, DURATION]


def test_a_reward_is_a_list_of_floats_and_the_credit_stays_at_hand():
    reward = TrlReward(LongestRun(Band(1, 3)), REMI, "longest_run")
    completion = [name for pitch in (60, 60, 60, 60, 60, 62) for name in _bar(pitch)]
    scores = reward(
        prompts=["".join(PROMPT)], completions=["not read"], completion_ids=[_ids(completion)], style=["jazz"]
    )
    assert scores == [-1.0]  # a run of five, band width two
    assert type(scores[0]) is float
    assert reward.__name__ == "longest_run"
    assert reward.last is not None and reward.last_notes is not None
    blamed = reward.last_notes.token[reward.last.credit < 0]
    assert blamed.tolist() == [6 * 3 + 5, 6 * 4 + 5]  # the durations of the fourth and fifth note


def test_the_prompt_is_not_judged_but_a_note_that_it_began_is():
    notes = Decoder(REMI)([" ".join([*PROMPT, "Position_24", "Pitch_60"])], [_ids([VELOCITY, DURATION, *_bar(62)])])
    assert notes.pitch.tolist() == [60, 62]
    assert notes.token.tolist() == [1, 7]
    assert notes.bar.tolist() == [0, 1]
    assert notes.n_tokens.tolist() == [8]
    assert notes.n_broken.tolist() == [0]


def test_notes_of_merged_tokens_are_those_of_a_completion():
    words = [*BAR, "Pitch_60", VELOCITY, DURATION, "Pitch_64", VELOCITY, DURATION]
    remi = REMI.learn_merges([np.array(_ids(words))] * 3, 40)
    completion = remi.read(" ".join(words)).tolist()
    assert remi.notes_in[completion].max() == 2
    notes = Decoder(remi)(["".join(PROMPT)], [[*completion, remi.eos_id]])
    assert notes.pitch.tolist() == [60, 64] and notes.token.tolist() == [len(completion) - 1] * 2
    assert notes.n_tokens.tolist() == [len(completion) + 1] and notes.n_broken.tolist() == [0]


def test_what_follows_the_end_is_cut_and_what_precedes_it_is_judged():
    whole, cut_short = _bar(60), _bar(60)[:-1]
    completions = [
        [*whole, "EOS_None"],
        [*whole, "EOS_None", "PAD_None", "PAD_None", "Pitch_70", VELOCITY, DURATION],
        [*cut_short, "EOS_None"],  # ends inside a note
        [*whole, "PAD_None"],  # sampled padding is no silence
    ]
    notes = Decoder(REMI)(["".join(PROMPT)] * 4, [_ids(names) for names in completions])
    assert notes.n_broken.tolist() == [0, 0, 1, 1]
    assert notes.n_tokens.tolist() == [7, 7, 6, 7]
    assert notes.counts.tolist() == [1, 1, 0, 1]


def test_many_rewards_decode_a_batch_once(monkeypatch):
    remi = Remi.build(("jazz", "other"))
    calls = []
    decode = remi.decode
    monkeypatch.setattr(remi, "decode", lambda *args: calls.append(1) or decode(*args))
    rewards = trl_rewards({name: factory(BANDS) for name, factory in REWARDS.items()}, remi)
    assert [reward.__name__ for reward in rewards] == list(REWARDS)
    prompts, ids = ["".join(PROMPT)], [_ids(_bar(60))]
    for reward in rewards:
        reward(prompts=prompts, completions=[], completion_ids=ids)
    assert len(calls) == 1
    ids[0] += _ids(_bar(72))  # the caller's list changed in place: a new batch
    rewards[0](prompts=prompts, completions=[], completion_ids=ids)
    assert len(calls) == 2
    assert rewards[0].last_notes.pitch.tolist() == [60, 72]


def test_a_prompt_that_is_no_music_is_one_clear_error():
    with pytest.raises(MgenError, match="expected REMI tokens as text, got list"):
        Decoder(REMI)([[{"role": "user", "content": "swing!"}]], [[1]])
    with pytest.raises(MgenError, match="prompt 'Bar_None swing': expected only REMI tokens"):
        Decoder(REMI)(["Bar_None swing"], [[1]])


class Faulty:
    """A judge of two pieces with one fault."""

    worst = -3.0

    def __init__(self, fault):
        self.fault = fault

    def __call__(self, notes):
        score, defined = np.array([0, -1], np.float32)[: notes.n_pieces], np.ones(notes.n_pieces, bool)
        return self.fault(notes, score, defined)


def _set(array, value):
    array[-1] = value
    return array


def _raise_on_pitch_64(notes):
    if (notes.pitch == 64).any():
        raise ZeroDivisionError("no\nbeat")
    return None


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda n, s, d: Judgement(_set(s, np.nan), None, d), r"'scores are finite': piece 1 \(1 notes\) has nan"),
        (lambda n, s, d: Judgement(_set(s, -np.inf), None, d), r"'scores are finite': piece 1 \(1 notes\) has -inf"),
        (lambda n, s, d: Judgement(_set(s, -4), None, d), r"below the worst value': piece 1 \(1 notes\) has -4"),
        (lambda n, s, d: Judgement(s, _set(np.array([0, 0], np.float32), np.nan), d), "'credit sums.*': piece 1 .*nan"),
        (lambda n, s, d: Judgement(s[:1], None, d), r"expected shape \(2,\), found float32 of shape \(1,\)"),
        (lambda n, s, d: Judgement(s.astype(float), None, d), "one float32 per piece.*found float64"),
        (lambda n, s, d: Judgement(torch.from_numpy(s), None, d), "one float32 per piece.*found torch.float32"),
        (lambda n, s, d: Judgement(None, None, d), "one float32 per piece.*found NoneType"),
        (lambda n, s, d: None, "'a judge returns a Judgement': found NoneType"),
        (lambda n, s, d: s.tolist(), "'a judge returns a Judgement': found list"),
        (lambda n, s, d: _raise_on_pitch_64(n), r"failed on piece 1 \(1 notes\): ZeroDivisionError: no beat"),
        (lambda n, s, d: [][len(n) - 1], "failed on piece 0"),
        (lambda n, s, d: [1][len(n) - 1], "failed on a batch of 2 pieces"),
    ],
)
def test_a_fault_of_a_judge_is_one_line_with_its_name_and_the_piece(fault, message):
    reward = TrlReward(Faulty(fault), REMI, "mine")
    with pytest.raises(MgenError, match=rf"^judge mine .*{message}") as caught:
        reward(["".join(PROMPT)] * 2, [], [_ids(_bar(60)), _ids(_bar(64))])
    assert "\n" not in str(caught.value)


def _bigram_llama(follows: dict[str, dict[str, float]]) -> LlamaForCausalLM:
    """A one-layer Llama that samples each token by the chances given for the one before."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=REMI.vocab_size,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=REMI.bos_id,
        eos_token_id=REMI.eos_id,
        pad_token_id=REMI.pad_id,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.zero_()
        model.lm_head.weight.zero_()
        for dimension, (name, chances) in enumerate(follows.items()):
            model.model.embed_tokens.weight[REMI.names.index(name), dimension] = 1.0
            # the last norm makes a one-hot state sqrt(32) long; 40 nats above every other token
            logits = 40 + torch.tensor(list(chances.values())).log()
            model.lm_head.weight[_ids(list(chances)), dimension] = logits / math.sqrt(32)
    return model


def _by_hand(completion: list[int]) -> tuple[float, float]:
    """Longest run against band 1..2 and the gate of two notes, for completions of one note a bar."""
    names = [REMI.names[i] for i in completion]
    whole = [names[i - 1] for i in range(1, len(names) - 1) if names[i] == VELOCITY and names[i + 1] == DURATION]
    run = longest = 0
    for i, pitch in enumerate(whole):
        run = run + 1 if i and pitch == whole[i - 1] else 1
        longest = max(longest, run)
    broken = names[-1] == "EOS_None" and names[-2] != DURATION
    return (
        -3.0 if len(whole) < 2 else -float(min(max(longest - 2, 0), 3)),
        -20.0 if len(whole) < 2 else -10.0 if broken else 0.0,
    )


@pytest.mark.slow
def test_plain_trl_trains_on_our_rewards_and_logs_them(tmp_path):
    follows = {
        "Bar_None": {"TimeSig_4/4": 1.0},
        "TimeSig_4/4": {"Position_0": 1.0},
        "Position_0": {"Pitch_60": 0.5, "Pitch_64": 0.5},
        "Pitch_60": {VELOCITY: 1.0},
        "Pitch_64": {VELOCITY: 1.0},
        VELOCITY: {DURATION: 0.9, "EOS_None": 0.1},
        DURATION: {"Bar_None": 1.0},
    }
    model = _bigram_llama(follows)
    before = model.lm_head.weight.detach().clone()
    sampled: list[list[int]] = []

    class SampleCallback(TrlReward):
        def __call__(self, prompts, completions, completion_ids, **columns):
            sampled.extend(completion_ids)
            return super().__call__(prompts, completions, completion_ids, **columns)

    decoder = Decoder(REMI)
    rewards = [
        SampleCallback(LongestRun(Band(1, 2)), decoder, "longest_run"),
        TrlReward(GrammarGate(fewest=2), decoder, "grammar"),
    ]
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=rewards,
        args=GRPOConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=8,
            num_generations=4,
            max_completion_length=36,
            max_steps=2,
            learning_rate=1e-2,
            logging_steps=1,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            seed=1,
        ),
        train_dataset=Dataset.from_list([{"prompt": "".join(PROMPT)}] * 4),
        processing_class=REMI.tokenizer(),
    )
    trainer.train()

    assert len(sampled) == 16
    assert any(REMI.kind[row[-1]] == Kind.END for row in sampled)
    logged = [entry for entry in trainer.state.log_history if "rewards/grammar/mean" in entry]
    for step, entry in enumerate(logged[:2]):
        by_hand = np.array([_by_hand(row) for row in sampled[8 * step : 8 * step + 8]])
        assert len(np.unique(by_hand[:, 0])) > 1  # there is something to tell apart
        assert math.isclose(entry["rewards/longest_run/mean"], by_hand[:, 0].mean(), abs_tol=1e-5)
        assert math.isclose(entry["rewards/grammar/mean"], by_hand[:, 1].mean(), abs_tol=1e-5)
        assert math.isclose(entry["reward"], by_hand.sum(axis=1).mean(), abs_tol=1e-5)
    assert len(logged) >= 2
    assert not torch.equal(model.lm_head.weight, before)
