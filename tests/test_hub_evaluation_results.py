import json

import pytest
import yaml
from hub_runs import cell, critic_run, evaluation, metrics
from huggingface_hub import parse_eval_result_entries

from mgen.errors import MgenError
from mgen.evaluation.comparisons import Verdict
from mgen.hub.evaluation_results import (
    EvaluationResults,
    critic_limits,
    critic_numbers,
    critic_tables,
    write_eval_results,
)
from mgen.stats.intervals import Interval


@pytest.fixture
def results(tmp_path):
    return EvaluationResults.read(evaluation(tmp_path / "e"), "jazz")


def test_rows_roles_and_undefined_numbers(results):
    assert (results.name, results.pretrained, results.target) == ("jazz", "base", "jazz")
    assert results.systems["base"] == "pretrained" and results.systems["real"] == "real"
    assert set(results.numbers()["transfer"]) == {
        "c2st_auc",
        "judge_jazz",
        "loop_rate_greedy",
        "kl_piece",
    }  # rep4: None


def test_changes_from_the_pretrained_model(results):
    changes = results.changes()["continuation"]
    assert [line.split(" 0.")[0] for line in changes[Verdict.WORSE]] == ["greedy loops", "two-sample AUC"]
    assert changes[Verdict.BETTER] == ["judged jazz 0.20 → 0.60 (real 0.90)"]


def test_transfer_is_compared_with_real_music_of_the_style(results):
    transfer = results.tables()[1]
    row = next(row for row in transfer.rows if row[0] == "judged jazz")
    assert transfer.head[1:] == ["real jazz", "pretrained", "**this model**", "best"]
    assert row[1:] == ["0.90 [0.85, 0.95]", "0.20 [0.15, 0.25]", "0.60 [0.50, 0.70]", "as real"]
    undefined = next(row for row in transfer.rows if row[0] == "repeated 4-grams")
    assert undefined[3] == "\N{EN DASH}"


def test_other_systems_have_their_own_table(results):
    others = results.others()
    assert others is not None
    assert [row[:2] for row in others.rows] == [
        ["**this model**", "continuation"],
        ["order 1 | chain (baseline)", "continuation"],
        ["**this model**", "transfer"],
    ]


def test_the_pretrained_model_itself_has_changed_nothing(tmp_path):
    results = EvaluationResults.read(evaluation(tmp_path / "e"), "base")
    assert results.changes() == {} and results.tables()[0].head == ["", "real jazz", "**this model**", "best"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("jaz", None, "no row is called 'jaz'; it has base, jazz; did you mean --name jazz?"),
        ("else", None, "it has base, jazz; give --name ROW"),
        ("real", None, "no row is called 'real'"),
        ("jazz", "[]", "evaluate again"),
        ("jazz", "{", "evaluate again"),
        ("jazz", json.dumps({"rows": {}, "protocol": {}}), "has no row 'real'"),
        ("jazz", json.dumps(metrics() | {"kinds": {}}), "key 'kinds' is now 'systems'"),
        ("jazz", json.dumps({"metrics": {}}), "evaluate again"),
    ],
)
def test_another_evaluation_is_one_line(name, content, said, tmp_path):
    folder = evaluation(tmp_path / "e")
    if content is not None:
        (folder / "metrics.json").write_text(content)
    with pytest.raises(MgenError) as caught:
        EvaluationResults.read(folder, name)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_no_evaluation_is_one_line(tmp_path):
    with pytest.raises(MgenError, match=r"found no metrics\.json; give the --out of mgen evaluate"):
        EvaluationResults.read(tmp_path, "jazz")


def test_eval_results_are_in_the_hubs_format(tmp_path):
    numbers = {
        "continuation": {"notes_until_told": Interval(100, 88.5, 100, bound="above")},
        "transfer": {"c2st_auc": Interval(0.9712345, 0.95, 0.99), "ece": Interval(0.03, float("nan"), float("nan"))},
    }
    bound, path = write_eval_results(tmp_path, numbers, "ada/bench", "https://huggingface.co/ada/jazz", "256 pieces")
    assert path == tmp_path / ".eval_results" / "mgen_transfer.yaml"
    # By hand, from https://huggingface.co/docs/hub/eval-results
    assert yaml.safe_load(path.read_text()) == [
        {
            "dataset": {"id": "ada/bench", "task_id": "transfer_c2st_auc"},
            "value": 0.971235,
            "source": {"url": "https://huggingface.co/ada/jazz", "name": "Model card"},
            "notes": "95 % interval 0.95 to 0.99; 256 pieces",
        },
        {
            "dataset": {"id": "ada/bench", "task_id": "transfer_ece"},
            "value": 0.03,
            "source": {"url": "https://huggingface.co/ada/jazz", "name": "Model card"},
            "notes": "256 pieces",
        },
    ]
    (entry,) = yaml.safe_load(bound.read_text())
    assert entry["value"] == 100 and entry["notes"].startswith("above 100; 95 % interval 88.5 to 100")
    assert [entry.value for entry in parse_eval_result_entries(yaml.safe_load(path.read_text()))] == [0.971235, 0.03]


def test_a_critics_card_gives_its_worst_pair(remi, tmp_path):
    card = json.loads((critic_run(tmp_path / "critic", remi) / "card.json").read_text())
    numbers = critic_numbers(card)["critic"]
    assert {name: number.value for name, number in numbers.items()} == {
        "auc": 0.9,
        "accuracy": 0.8,
        "auc_worst_pair": 0.61,
        "calibration_error": 0.03,
    }
    discrimination, moved = critic_tables(card)
    assert ["AUC, a|b against pop", "0.610 [0.500, 0.720]", "1"] in discrimination.rows
    assert [row[0] for row in moved.rows] == ["humanised", "random pitches"]
    assert critic_numbers({}) == {} and critic_tables({}) == []


def test_weaknesses_that_a_critics_card_shows():
    test = {
        "pairs": {"solos": {"folk": cell(0.9), "pop": cell(0.61, 0.5, 0.72)}},
        "format": {"humanised": cell(-0.1), "sixteenths": cell(-0.6)},
        "corrupted": {"random_pitches": cell(-0.05), "one_pitch": cell(-3.9)},
    }
    assert critic_limits({"test": test}) == [
        "Its worst pair of collections is `solos` against `pop`: AUC 0.610 [0.500, 0.720].",
        "It hardly reacts to some corruptions (the score falls by less than 0.5 nats): random pitches (-0.05).",
        "Changes of format alone move its score: sixteenths (-0.60) nats.",
    ]
    assert critic_limits({}) == []


def test_metrics_of_tests_are_json():
    assert json.loads(json.dumps(metrics()))["rows"]["real"]["transfer"]["rep4"] == cell(0.3)
