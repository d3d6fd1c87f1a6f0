"""Networks that predict the next note: every combination of features, preparation, network and loss."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn.functional import cross_entropy, one_hot
from transformers import AutoModel

from mgen.encoding.tab_events import check_events, decode
from mgen.models.baselines.event_vectors import (
    CLASS_NAMES,
    FEATURES,
    PREPARATIONS,
    PRETRAINED,
    TARGETS,
    VARIANTS,
    EventVectors,
    all_symbols,
    feature_classes,
    log2_quarters,
    symbol_of,
    words,
)
from mgen.models.baselines.next_note import MODELS, NextNoteConfig, NextNoteModel
from mgen.models.baselines.note_losses import LOSSES, balanced_weights, head_loss, predicted_class

SMALL = {"window": 10, "event_width": 6, "width": 8}


def some_events(rows, seed=0):
    """(rows, 11, 4) random events."""
    symbols = np.random.default_rng(seed).integers(len(all_symbols()), size=(rows, 11))
    return torch.from_numpy(all_symbols()[symbols])


def build(**changes):
    torch.manual_seed(0)
    return NextNoteModel(NextNoteConfig(**SMALL | changes))


def run(model, events):
    return model(events[:, :-1], events[:, -1])


def test_symbols_are_all_events():
    events = all_symbols()
    assert len(check_events(events)) == len(np.unique(events, axis=0)) == 129 * 14
    np.testing.assert_array_equal(symbol_of(torch.from_numpy(events)), np.arange(len(events)))


def test_classes_of_an_event():
    event = np.array([[10, 5, 2, 1], [0, 0, 6, 0]])  # a dotted quarter A above middle C's octave start; a 64th rest
    classes = {name: feature.of(event).tolist() for name, feature in FEATURES.items()}
    note = decode(event[:1].astype(np.uint8)).tracks[0].notes[0]
    assert classes["pitch"] == [note.pitch + 1, 0] == [70, 0]
    assert classes["duration"] == [5, 12] and classes["semitone"] == [10, 0]
    assert [CLASS_NAMES[target][TARGETS[target].of(event[0])] for target in TARGETS] == [
        "A",
        "A4",
        "dotted quarter",
        "dotted",
    ]
    assert 2 ** log2_quarters()[5].item() == pytest.approx(note.duration / 960) == 1.5
    assert {name: len(names) for name, names in CLASS_NAMES.items()} == {name: of.size for name, of in TARGETS.items()}


COMBINATIONS = list(itertools.product(VARIANTS, PREPARATIONS, MODELS, LOSSES))


@pytest.mark.parametrize(("features", "preparation", "model", "loss"), COMBINATIONS)
def test_gradients_reach_every_weight_that_is_trained(features, preparation, model, loss):
    targets = ["duration"] if loss == "mse" else list(TARGETS)
    network = build(features=features, preparation=preparation, model=model, loss=loss, targets=targets)
    outputs = run(network, some_events(64))
    outputs.loss.backward()
    assert torch.isfinite(outputs.loss) and torch.isfinite(outputs.logits).all()
    for name, weight in network.named_parameters():
        assert weight.grad is not None and torch.isfinite(weight.grad).all() and weight.grad.any(), name
    classes = network.predict(outputs.logits)
    assert classes.shape == (64, len(targets)) and (classes >= 0).all()
    assert all((classes[:, i] < TARGETS[target].size).all() for i, target in enumerate(targets))


@pytest.mark.parametrize("preparation", PRETRAINED)
def test_frozen_vectors_stay_and_others_move(preparation):
    for freeze in (True, False):
        network = build(preparation=preparation, freeze=freeze)
        before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
        run(network, some_events(64)).loss.backward()
        optimizer.step()
        moved = {name for name, weight in network.named_parameters() if not torch.equal(weight, before[name])}
        assert set(before) - moved == ({"vectors.weight"} if freeze else set())


@pytest.mark.parametrize(("preparation", "model"), list(itertools.product(PREPARATIONS, MODELS)))
def test_a_saved_model_gives_the_same_logits(preparation, model, tmp_path):
    network = build(preparation=preparation, model=model, loss="weighted", targets=["pitch", "dotted"])
    run(network, some_events(32))  # fills the counts of classes
    network.eval().save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path, trust_remote_code=False).eval()
    events = some_events(16, seed=1)
    ours, theirs = run(network, events), run(loaded, events)
    assert torch.equal(ours.logits, theirs.logits) and torch.equal(ours.loss, theirs.loss)


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_hot_is_a_dense_layer_over_one_hot_vectors(variant):
    vectors = EventVectors(variant, "one_hot", 6)
    torch.nn.init.normal_(vectors.bias)
    events = some_events(8)
    parts = [one_hot(FEATURES[name].of(events).long(), FEATURES[name].size) for name in VARIANTS[variant]]
    dense = torch.cat(parts, dim=-1).float() @ vectors.weight + vectors.bias
    torch.testing.assert_close(vectors(events), dense)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_embedding_puts_the_features_side_by_side(variant):
    vectors = EventVectors(variant, "embedding", 7)
    events = some_events(8)
    parts = [
        table(FEATURES[name].of(events).long()) for name, table in zip(VARIANTS[variant], vectors.tables, strict=True)
    ]
    torch.testing.assert_close(vectors(events), torch.cat(parts, dim=-1))
    assert vectors(events).shape == (8, 11, 7)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_word_is_what_the_features_tell_apart(variant):
    classes, word = words(variant)
    np.testing.assert_array_equal(classes[word], feature_classes(variant))
    sizes = [FEATURES[name].size for name in VARIANTS[variant]]
    assert len(classes) == (129 * 14 if variant.startswith("semitone_octave") else math.prod(sizes))


@pytest.mark.parametrize("model", MODELS)
def test_a_network_reads_the_whole_window_or_the_last_note(model):
    network = build(model=model).eval()
    events = some_events(8)[:, :-1]
    first, last = events.clone(), events.clone()
    first[:, 0], last[:, -1] = torch.tensor([1, 5, 2, 0]), torch.tensor([1, 5, 2, 0])
    logits = network(events).logits
    assert torch.equal(network(first).logits, logits) == (model == "last_note")
    assert not torch.equal(network(last).logits, logits)


def test_class_weights_before_any_example_are_alike():
    assert balanced_weights(torch.zeros(3)).tolist() == [1, 1, 1]
    network = build(loss="weighted").eval()
    events = some_events(8)
    assert torch.isfinite(network(events[:, :-1], events[:, -1]).loss)


def test_class_weights_are_those_of_scikit_learn_over_all_batches_so_far():
    network = build(loss="weighted", targets=["note", "dotted"])
    batches = [some_events(50, seed=seed) for seed in range(3)]
    batches[0][:, -1] = batches[0][0, -1]  # a batch of one class
    for batch in batches:
        run(network, batch)
    seen = torch.cat(batches)[:, -1]
    for i, target in enumerate(("note", "dotted")):
        classes = TARGETS[target].of(seen).numpy()
        found = balanced_weights(network.class_counts[i, : TARGETS[target].size]).numpy()
        present = np.unique(classes)
        wanted = compute_class_weight("balanced", classes=present, y=classes)
        np.testing.assert_allclose(found[present], wanted, rtol=1e-6)
        assert found.sum() == pytest.approx(wanted.sum())
    before = network.class_counts.clone()
    run(network.eval(), batches[0])
    assert torch.equal(network.class_counts, before)


def test_losses_by_hand():
    counts, classes = torch.ones(3), torch.tensor([0, 2])
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.0]])
    p = logits.softmax(1)
    plain = -(p[0, 0].log() + p[1, 2].log()) / 2
    entropy = -(p * p.log()).sum(1).mean()
    torch.testing.assert_close(head_loss("cross_entropy", logits, classes, counts, 0.0, 0.0), plain)
    torch.testing.assert_close(head_loss("cross_entropy", logits, classes, counts, 0.5, 0.0), plain - 0.5 * entropy)
    smooth = 0.7 * plain - 0.3 * p.log().mean()
    torch.testing.assert_close(head_loss("cross_entropy", logits, classes, counts, 0.0, 0.3), smooth)
    torch.testing.assert_close(
        head_loss("weighted", logits, classes, torch.tensor([3.0, 0.0, 1.0]), 0.0, 0.0),
        cross_entropy(logits, classes, torch.tensor([4 / 6, 0.0, 2.0])),
    )
    single, q = torch.tensor([[1.0], [-2.0]]), torch.tensor([1.0, -2.0]).sigmoid()
    bce = -(q[0].log() + (1 - q[1]).log()) / 2
    yes = torch.tensor([1, 0])
    torch.testing.assert_close(head_loss("bce", single, yes, counts, 0.0, 0.0), bce)
    binary = -(q * q.log() + (1 - q) * (1 - q).log()).mean()
    torch.testing.assert_close(head_loss("bce", single, yes, counts, 1.0, 0.0), bce - binary)
    wanted = torch.tensor([0.9, 0.1])
    smoothed = -(wanted * q.log() + (1 - wanted) * (1 - q).log()).mean()
    torch.testing.assert_close(head_loss("bce", single, yes, counts, 0.0, 0.2), smoothed)
    quarters = torch.tensor([[0.0], [1.0]])  # a quarter and a half note
    torch.testing.assert_close(head_loss("mse", quarters, torch.tensor([4, 4]), counts, 0.0, 0.0), torch.tensor(0.5))


def test_mse_predicts_the_nearest_note_value():
    logits = log2_quarters()[:, None] + torch.linspace(-0.19, 0.19, 14)[:, None]  # half the way to a neighbour is .2
    assert predicted_class("mse", logits).tolist() == list(range(14))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "mse"}, "loss mse predicts a duration alone, not note duration; use --targets duration"),
        ({"loss": "mse", "targets": ["duration"], "label_smoothing": 0.1}, "loss mse has no probabilities"),
        ({"loss": "mse", "targets": ["duration"], "confidence_penalty": 0.1}, "loss mse has no probabilities"),
        ({"targets": []}, "expected one or more of note, pitch, duration, dotted"),
        ({"targets": ["note", "note"]}, "each once"),
        ({"targets": ["key"]}, "targets 'key': expected one of note"),
        ({"freeze": True}, "freeze is for skip_gram and autoencoder; one_hot is not"),
        ({"model": "stacked_lstm", "layers": 1}, "must be at least 2 for stacked_lstm"),
        ({"event_width": 3}, r"event_width \(3\) must be at least"),
        ({"model": "rnn"}, "model 'rnn': expected one of last_note"),
    ],
)
def test_impossible_combinations_are_one_line(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        NextNoteConfig(**SMALL | changes)
    assert "\n" not in str(caught.value)
