"""Players: what guidance leads from, what the penalty falls on, who wins among n, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mgen.corpus.shards import Corpus
from mgen.encoding.remi import Kind
from mgen.errors import MgenError
from mgen.evaluation import baselines as rows
from mgen.evaluation.protocol import Protocol
from mgen.notes import Notes
from mgen.sampling.decoding import Decoding
from mgen.sampling.prompts import PROMPT_TYPES, Prompts, draw_prompts
from mgen.sampling.systems import BestOf, Completions, CopySystem, MarkovSystem, ModelSystem, best_of, without_style
from mgen.workflows.evaluate import EvaluateConfig, build_systems


@pytest.fixture(scope="module")
def corpus(small_corpus):
    return Corpus.open(small_corpus)


def prompts_of(corpus, prompt_type="continuation", n=6, prompt_tokens=24):
    rng = np.random.default_rng(0)
    return draw_prompts(
        corpus, "test", prompt_type, n, prompt_tokens if prompt_type != "unconditional" else 0, 48, "jazz", rng
    )


def without_the_style(prompts, remi):
    return replace(prompts, ids=np.array([without_style(row, remi) for row in prompts.ids.tolist()]))


def test_guidance_of_1_is_the_style_and_of_0_its_absence(tiny_policy, corpus, remi):
    policy, prompts = tiny_policy(initializer_range=0.3), prompts_of(corpus)
    asked = ModelSystem(policy, remi).complete(prompts, 24, 3)
    bare = ModelSystem(policy, remi).complete(without_the_style(prompts, remi), 24, 3)
    assert asked.token_ids != bare.token_ids
    for weight, same in ((1.0, asked), (0.0, bare)):
        guided = ModelSystem(policy, remi, Decoding(guidance=weight)).complete(prompts, 24, 3)
        assert guided.token_ids == same.token_ids
        np.testing.assert_allclose(np.concatenate(guided.logprobs), np.concatenate(same.logprobs), atol=1e-5)


def test_logprobs_are_of_what_was_drawn_from(tiny_policy, corpus, remi):
    """Guidance and penalised pitches by hand from the model's own forward passes."""
    policy, prompts = tiny_policy(initializer_range=0.3), prompts_of(corpus, n=3)
    drawn = ModelSystem(policy, remi, Decoding(guidance=2.0, repetition_penalty=1.5)).complete(prompts, 12, 5)
    is_pitch = torch.from_numpy(remi.kind == Kind.PITCH)
    for prompt, row, logprobs in zip(prompts.ids.tolist(), drawn.token_ids, drawn.logprobs, strict=True):
        bare = without_style(prompt, remi)
        for place, token in enumerate(row):
            with torch.no_grad():
                with_style, without = (
                    policy(torch.tensor([head + row[:place]])).logits[0, -1] for head in (prompt, bare)
                )
            logits = 2 * with_style - without
            for used in {t for t in [*prompt, *row[:place]] if is_pitch[t]}:
                logits[used] = logits[used] / 1.5 if logits[used] > 0 else logits[used] * 1.5
            assert abs(float(logits.log_softmax(-1)[token]) - logprobs[place]) < 1e-4


def test_greedy_has_no_logprobs_and_no_chance(tiny_policy, corpus, remi):
    system, prompts = ModelSystem(tiny_policy(), remi), prompts_of(corpus)
    first, second = (system.complete(prompts, 20, seed, greedy=True) for seed in (0, 1))
    assert first.token_ids == second.token_ids and first.logprobs is None


def test_guidance_needs_a_style(tiny_policy, remi):
    ids = np.array([[remi.bos_id]])
    prompts = Prompts("unconditional", ids, ids[:, 1:], 0, np.array(["x"]))
    with pytest.raises(MgenError, match="guidance needs a style to lead to, one of jazz, other"):
        ModelSystem(tiny_policy(), remi, Decoding(guidance=2.0)).complete(prompts, 8, 0)


@pytest.mark.parametrize("prompt_type", PROMPT_TYPES)
@pytest.mark.parametrize("word", ["markov1", "markov5", "train", "best_of_4", "guidance_2", "repetition_penalty_1.2"])
def test_every_row_completes_every_type_of_prompt(word, prompt_type, tiny_policy, corpus, remi):
    prompts = prompts_of(corpus, prompt_type)
    if word in rows.BASELINES:
        system = rows.baseline(word, corpus, "jazz")
    else:
        system = rows.low_cost_baseline(
            word, ModelSystem(tiny_policy(), remi), lambda notes: notes.counts.astype(float)
        )
    drawn, again = system.complete(prompts, 32, 7), system.complete(prompts, 32, 7)
    assert drawn == again and drawn != system.complete(prompts, 32, 8)
    assert len(drawn.token_ids) == 6 and all(1 <= len(row) <= 32 for row in drawn.token_ids)
    if drawn.logprobs is not None:
        assert [len(row) for row in drawn.logprobs] == [len(row) for row in drawn.token_ids]
    assert (drawn.logprobs is None) == (not system.decodes_greedily)
    if not system.decodes_greedily:
        with pytest.raises(MgenError, match="greedy"):
            system.complete(prompts, 32, 7, greedy=True)


def test_the_mask_of_an_evaluation_is_on_every_model(tiny_policy, corpus, small_corpus, remi, tmp_path):
    tiny_policy(initializer_range=0.3).save_pretrained(tmp_path)
    remi.save_pretrained(tmp_path)
    words = {"model": [f"base={tmp_path}"], "low_cost_model": [f"other={tmp_path}"], "baselines": ["none"]}
    words |= {"low_cost_baselines": ["guidance_2"], "corpus": str(small_corpus), "out": "-", "grammar": True}
    config = EvaluateConfig(**words, n=32, prompt_tokens=24, completion_tokens=32)
    protocol = Protocol("jazz", grammar=True)
    prompts = prompts_of(corpus)
    for evaluated in build_systems(config, protocol, corpus):
        drawn = evaluated.systems[0].complete(prompts, 32, 7)
        assert (Notes.from_completions(prompts.ids.tolist(), drawn.token_ids, remi).n_broken == 0).all()
        assert all(0.1 < removed < 1 for removed in drawn.removed)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("markow1", "did you mean markov1"),
        ("markov", "did you mean markov"),
        ("markov0", "whole number of at least 1"),
        ("markov1.5", "whole number of at least 1"),
        ("trian", "did you mean train"),
        ("", "no row is called ''"),
    ],
)
def test_unknown_baselines(word, message, corpus):
    with pytest.raises(MgenError, match=message):
        rows.baseline(word, corpus, "jazz")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("best_of8", "did you mean best_of_8"),
        ("best_of_8", "needs the judges"),
        ("best_of_0", "whole number"),
        ("guidence_2", "did you mean guidance_2"),
        ("repetition_penalty_0", "above 0"),
        ("markov1", "no row is called"),
    ],
)
def test_unknown_low_cost_baselines(word, message, tiny_policy, remi):
    score = None if word == "best_of_8" else len
    with pytest.raises(MgenError, match=message):
        rows.low_cost_baseline(word, ModelSystem(tiny_policy(), remi), score)


class Dice:
    """A system that throws a die of `faces` sides; the side is a pitch."""

    decodes_greedily = False

    def __init__(self, remi, share):
        self.remi, self.share = remi, share

    def complete(self, prompts, length, seed, greedy=False):
        names = {name: i for i, name in enumerate(self.remi.names)}
        thrown = np.random.default_rng(seed).choice(len(self.share), size=len(prompts.ids), p=self.share)
        head = [names[name] for name in ("Bar_None", "TimeSig_4/4", "Position_0")]
        tail = [names[name] for name in ("Velocity_63", "Duration_1.0.24")]
        return Completions([[*head, names[f"Pitch_{60 + side}"], *tail] for side in thrown.tolist()], None)


def pitch_of(notes):
    return notes.pitch[notes.starts[:-1]].astype(float)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 4, 16])
def test_best_of_n_stays_within_its_bound(n, remi):
    """KL(best of n, system) on a die, exactly and as drawn: at most log n - (n-1)/n."""
    share = np.array([0.4, 0.3, 0.2, 0.07, 0.03])
    # The best of n is side i when all are at most i and not all below i.
    upto = np.cumsum(share)
    exact = upto**n - (upto - share) ** n
    kl = float((exact * np.log(exact / share)).sum())
    ids = np.full((20000, 1), remi.bos_id)
    prompts = Prompts("unconditional", ids, ids[:, 1:], 0, np.full(20000, "x"))
    system = BestOf(Dice(remi, share), remi, n, pitch_of)
    drawn = np.array(system.complete(prompts, 6, 0).token_ids)[:, 3]
    count = np.bincount(remi.value[drawn] - 60, minlength=5)
    np.testing.assert_allclose(count / 20000, exact, atol=0.015)  # 4 deviations
    assert system.kl_bound == pytest.approx(math.log(n) - (n - 1) / n)
    assert kl <= system.kl_bound + 1e-12


def test_best_of_n_keeps_the_highest_of_each_prompt(corpus, remi, tiny_policy):
    prompts = prompts_of(corpus, n=5)
    seen = []

    def score(notes):
        seen.append(notes.counts.astype(float) + np.linspace(0, 0.5, notes.n_pieces))
        return seen[-1]

    system = MarkovSystem(rows.baseline("markov1", corpus, "jazz").chain, corpus.remi)
    chosen = BestOf(system, remi, 3, score).complete(prompts, 40, 2).token_ids
    again = replace(prompts, ids=prompts.ids.repeat(3, axis=0))
    tries = system.complete(again, 40, 2).token_ids
    places = seen[0].reshape(5, 3).argmax(axis=1)
    assert chosen == [tries[3 * row + place] for row, place in enumerate(places)]


def test_equal_tries_go_to_the_first_and_no_number_is_refused():
    assert best_of(np.array([[1.0, 2.0, 2.0], [-3.0, -3.0, -3.0]])).tolist() == [1, 0]
    with pytest.raises(MgenError, match="1 of 2 scores are no numbers"):
        best_of(np.array([[1.0, np.nan]]))


def test_copies_are_of_the_style_asked_for(corpus, remi):
    system = rows.baseline("train", corpus, "jazz")
    assert isinstance(system, CopySystem)
    jazz = corpus.table("train", "jazz").ids
    text = "," + ",".join(map(str, jazz.tolist())) + ","
    for row in system.complete(prompts_of(corpus, "unconditional"), 40, 0).token_ids:
        assert "," + ",".join(map(str, row)) + "," in text


def test_too_long_a_completion_is_one_line(tiny_policy, corpus, remi):
    with pytest.raises(MgenError, match="at most 1024 tokens, the model's context"):
        ModelSystem(tiny_policy(), remi).complete(prompts_of(corpus), 1020, 0)
