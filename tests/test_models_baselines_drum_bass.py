"""The networks that turn drums into a bass: they learn, every weight counts, and a folder gives them back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from band_corpus import songs
from transformers import AutoModel

from mgen.encoding.drum_bass import CLASSES, HOLD, PITCHES, REST, cut_windows
from mgen.models.baselines.drum_bass import MODELS, DrumBassConfig, DrumBassModel, above
from mgen.models.baselines.drum_bass_layers import most_likely
from mgen.models.baselines.drum_bass_networks import CODE
from mgen.music.keys import UNKNOWN_KEY
from mgen.notes import Notes
from mgen.sampling.drum_bass import sample
from mgen.stats.bass_metrics import Played, bass_values

RANDOM = ("seq2seq", "pix2pix", "cvae")


def build(model, **changes):
    torch.manual_seed(0)
    options = {"width": 16, "layers": 2, "latent": 4, "genres": ["a", "b"], **changes}
    return DrumBassModel(DrumBassConfig(model=model, **options))


def batch(size=6, steps=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "drums": torch.rand(size, steps, 14, generator=generator) < 0.2,
        "conditions": torch.tensor([[120.0, 33, 0, 4], [90, 39, 1, 14], [0, 32, -1, UNKNOWN_KEY]]).repeat(size // 3, 1),
        "labels": torch.randint(CLASSES, (size, steps), generator=generator),
    }


@pytest.mark.parametrize("conditions", [[], ["tempo", "instrument"], ["tempo", "instrument", "genre", "key"]])
@pytest.mark.parametrize("model", MODELS)
def test_the_loss_is_finite_and_reaches_every_weight(model, conditions):
    made = build(model, conditions=conditions, dropout=0.0).train()
    given = batch()
    made(**given)  # the weight of the divergence is above 0 from the second step on
    found = made(**given)
    found.loss.backward()
    assert torch.isfinite(found.loss) and found.logits.shape == (6, 64, CLASSES)
    still = [name for name, of in made.named_parameters() if of.grad is None or not of.grad.abs().sum() > 0]
    assert still == []


@pytest.mark.parametrize("model", MODELS)
def test_a_saved_model_is_the_same(model, tmp_path):
    made = build(model, steps=32).eval()
    made.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path, trust_remote_code=False).eval()
    given = batch(steps=32)
    with torch.inference_mode():
        assert torch.equal(made(**given).logits, again(**given).logits)
    drums, conditions = given["drums"], given["conditions"]
    np.testing.assert_array_equal(sample(made, drums, conditions, 2), sample(again, drums, conditions, 2))
    assert again.config.genres == ["a", "b"]


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_a_handful_of_pairs_is_learned(model):
    windows = [cut_windows(Notes.from_scores([score]), 32) for score in songs(3, bars=4).values()]
    drums, bass = (
        torch.from_numpy(np.concatenate([getattr(of, name) for of in windows])) for name in ("drums", "bass")
    )
    key = torch.arange(len(drums))  # tells windows with equal drums apart
    conditions = torch.stack([torch.full_like(key, 120), torch.full_like(key, 33), 0 * key, key], dim=1).float()
    options = {"dropout": 0.0, "condition_dropout": 0.0, "free_bits": 0.0}
    made = build(model, steps=32, width=48, kl_weight=0.05, kl_warm_up=1, **options).train()
    optimizer = torch.optim.Adam(made.parameters(), lr=1e-2)
    for _ in range(150):
        made(drums, conditions, bass.long()).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    line = sample(made, drums, conditions, temperature=0.0)[0]
    values = bass_values(Played(drums.numpy(), bass.numpy(), line, key.numpy()))
    assert values["note_f1"] > 0.9


@pytest.mark.parametrize("model", MODELS)
def test_samples_repeat_by_seed_and_differ_where_lines_can(model):
    made, given = build(model, width=32), batch()
    for of in made.parameters():
        of.data *= 3  # an untrained network hardly depends on what it reads
    lines = sample(made, given["drums"], given["conditions"], 4, seed=1)
    assert lines.shape == (4, 6, 64) and lines.max() < CLASSES
    np.testing.assert_array_equal(lines, sample(made, given["drums"], given["conditions"], 4, seed=1))
    differ = (lines != lines[:1]).any()
    assert made.random == (model in RANDOM) == differ
    greedy = sample(made, given["drums"], given["conditions"], 2, temperature=0.0, seed=2)
    np.testing.assert_array_equal(greedy[0], greedy[1])


def test_seq2seq_reads_no_step_to_come():
    made, given = build("seq2seq").eval(), batch()
    with torch.inference_mode():
        before = made(**given).logits
        given["labels"][:, 20:] = 0
        after = made(**given).logits
    torch.testing.assert_close(before[:, :21], after[:, :21])
    assert not torch.allclose(before[:, 21:], after[:, 21:])


def test_drawing_step_by_step_is_the_forward_pass():
    made, given = build("seq2seq").eval(), batch()
    with torch.inference_mode():
        line = made.draw(given["drums"], given["conditions"], 0.0)
        logits = made(given["drums"], given["conditions"], line).logits
    assert torch.equal(most_likely(logits), line)


def test_lstm_reads_64_values_and_the_conditions_twice():
    made = build("lstm", conditions=["tempo", "instrument"])
    linear = [layer for layer in made.network.modules() if isinstance(layer, torch.nn.Linear)]
    assert CODE == 64 and len(linear) == 5
    assert linear[0].in_features == 66 and linear[2].in_features == linear[1].out_features + 2


def test_the_divergence_by_hand_and_its_weight():
    made, given = build("cvae", latent=2, dropout=0.0, kl_warm_up=4, free_bits=0.0), batch()
    torch.nn.init.zeros_(made.network.posterior.weight)
    made.network.posterior.bias.data = torch.tensor([1.0, 2.0, 0.0, 0.0])  # means 1 and 2, variances 1
    made.eval()
    _, extra = made.network(
        given["drums"].float(), made.condition_numbers(made.known(given["conditions"])), given["labels"]
    )
    torch.testing.assert_close(extra, torch.full((6,), 2.5))  # (1 + 4) / 2
    assert made.network.trained == 0
    made.train()
    extras = [
        made.network(given["drums"].float(), made.condition_numbers(made.known(given["conditions"])), given["labels"])[
            1
        ][0].item()
        for _ in range(5)
    ]
    np.testing.assert_allclose(extras, 2.5 * np.array([0.25, 0.5, 0.75, 1, 1]), rtol=1e-6)
    made.config.free_bits = 1.0
    _, extra = made.network(
        given["drums"].float(), made.condition_numbers(made.known(given["conditions"])), given["labels"]
    )
    torch.testing.assert_close(extra[0], torch.tensor(3.0))  # 1 for the free bits, 2 for the second


def test_the_game_of_pix2pix_gives_each_side_its_own_gradient():
    made, given = build("pix2pix", dropout=0.0).train(), batch()
    network, known = made.network, made.condition_numbers(made.known(given["conditions"]))
    made.config.adversarial_weight = 0.0
    network(given["drums"].float(), known, given["labels"])[1].sum().backward()
    side = {name.split(".")[0] for name, of in network.named_parameters() if of.grad is not None and of.grad.any()}
    assert side == {"discriminator"}
    made.zero_grad()
    made.config.adversarial_weight = 1.0
    with torch.no_grad():
        for of in network.discriminator.parameters():
            of.zero_()  # it judges everything alike: 0.5
    extra = network(given["drums"].float(), known, given["labels"])[1]
    torch.testing.assert_close(extra, torch.full((6,), 2 * 64 * float(np.log(2))))


def test_unknown_conditions_are_read_alike():
    made = build("dense", programs=[33], keys=[4, UNKNOWN_KEY]).eval()
    rows = [[120.0, 33, 1, 4], [0, 34, -1, 5], [-3, -1, 2, UNKNOWN_KEY], [240, 33, 7, 99]]
    numbers = made.condition_numbers(made.known(torch.tensor(rows)))
    assert numbers.shape == (4, 1 + 1 + 3 + 25)
    torch.testing.assert_close(numbers[1], numbers[2])
    assert numbers[0, :5].tolist() == pytest.approx([0, 1 / 7 - 0.5, 0, 1, 0])
    assert numbers[1, :5].tolist() == [0, 0, 0, 0, 1] and numbers[1, -1] == 1
    assert numbers[3, 0].item() == pytest.approx(1 / 0.7) and numbers[3, 4] == 1 and numbers[3, -1] == 1


def test_pitches_above_the_tonic_and_back():
    classes = torch.arange(CLASSES)
    found = above(classes, torch.tensor(3))  # the tonic is G
    assert found[:5].tolist() == [9, 10, 11, 0, 1] and found[12:16].tolist() == [21, 22, 23, 12]
    assert found[PITCHES:].tolist() == [REST, HOLD]
    for tonic in range(12):
        moved = above(classes, torch.tensor(tonic))
        assert sorted(moved.tolist()) == classes.tolist()
        assert torch.equal(above(moved, -torch.tensor(tonic)), classes)


@pytest.mark.parametrize("model", MODELS)
def test_the_same_music_in_another_key_is_alike(model):
    made, given = build(model, conditions=["tempo", "key"]).eval(), batch()
    numbers = made.condition_numbers
    made.condition_numbers = lambda known: numbers(known * torch.tensor([1, 1, 1, 0]))  # the network cannot see the key
    given["conditions"][:, 3] = 4  # E: the lowest pitch is the tonic
    moved = {**given, "conditions": given["conditions"].clone(), "labels": above(given["labels"], torch.tensor(-5))}
    moved["conditions"][:, 3] = 9  # A
    with torch.inference_mode():
        torch.testing.assert_close(made.nats(**given), made.nats(**moved))
        here, there = made(**given).logits, made(**moved).logits
        torch.testing.assert_close(here, there[:, :, above(torch.arange(CLASSES), torch.tensor(-5))])
    lines = [torch.from_numpy(sample(made, of["drums"], of["conditions"]).astype(int)) for of in (given, moved)]
    assert torch.equal(above(lines[0], torch.tensor(-5)), lines[1])


def test_a_start_is_likely_if_its_pitches_are_together():
    logits = torch.full((CLASSES,), -9.0)
    logits[[3, 4, 5]] = torch.tensor([0.0, 0.1, 0.0])
    logits[HOLD] = 0.9  # more than each pitch, less than the three
    assert most_likely(logits) == 4
    logits[HOLD] = 1.5
    assert most_likely(logits) == HOLD


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "mlp"}, "model 'mlp': expected one of dense"),
        ({"steps": 48}, r"steps \(48\): expected one of 32, 64"),
        ({"conditions": ["mood"]}, "conditions 'mood': expected one of tempo"),
        ({"conditions": ["key", "key"]}, "expected each at most once"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        DrumBassConfig(**options)
