"""The end of a fine-tuning run in a table of at most ten rows."""

from __future__ import annotations

import json

import pytest

from mgen.cli.tuned_summary import describe
from mgen.runs.run import TrainingResult


def result(folder, lines):
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return TrainingResult(folder, folder / "model", 4, 12.0, {}, False, (), {})


def check(step, evidence, style):
    names = ("continuation/style", "transfer/style", "continuation/auc", "transfer/auc", "continuation/whole")
    found = dict.fromkeys([f"guard/{name}" for name in (*names, "continuation/greedy_loops")], 0.5)
    return {"step": step, "guard/evidence": evidence, **found, "guard/transfer/style": style}


STEPS = [
    {"step": n, "reward": n - 3.0, "policy/kl": 2.0 * n, "probability/style": 0.25 * n, "share/style": 1.0}
    for n in (1, 2, 3, 4)
]


@pytest.mark.parametrize("columns", [40, 100])
def test_the_table_compares_the_start_with_the_weights_that_were_kept(columns, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = [check(0, 9.0, 0.2), *STEPS[:2], check(2, 3.0, 0.6), *STEPS[2:], check(4, 5.0, 0.9)]
    text = describe(result(tmp_path, lines))
    table = [line for line in text.splitlines() if line.startswith(("│", "┃", "┡", "├"))]
    assert all(len(line) <= columns for line in table)
    words = " ".join(text.split())
    assert "step 2" in words and "weights kept: those of step 2, the best held-out check" in words
    assert str(tmp_path / "metrics.jsonl") in text
    if columns == 100:
        rows = {line.split("│")[1].strip(): line.split("│")[2:4] for line in table if line.startswith("│")}
        assert len(rows) <= 10
        cells = {name: [cell.strip() for cell in row] for name, row in rows.items()}
        assert cells["reward, weighted sum of all judges"] == ["-2.000", "-1.500"]  # steps 1 and 2: -2 and -1
        assert cells["KL to the start, nats per piece"] == ["", "3.000"]
        assert cells["held-out, share of the style: other styles"] == ["0.200", "0.600"]


def test_without_checks_the_last_weights_are_kept_and_each_judge_has_a_row(tmp_path):
    steps = [line | {"rewards/loops/mean": line["step"] / 10, "rewards/loops/std": 9.0} for line in STEPS]
    text = describe(result(tmp_path, steps))
    (row,) = [line.split("│")[2:4] for line in text.splitlines() if "score of loops" in line]
    assert [cell.strip() for cell in row] == ["0.100", "0.250"]
    assert "weights kept: those of the last step" in text and "held-out" not in text
    assert "0.500" in text  # mean reward of the steps 1 to 4 is -0.5, the KL 5, the probability 0.625
