"""Judges by name or from somebody's package: what entries mean, and one line for each mistake."""

from __future__ import annotations

import textwrap

import numpy as np
import pytest

from mgen.errors import MgenError
from mgen.judgement import judged
from mgen.notes import Notes
from mgen.runs.judges import JudgeSpec, build_judge, build_judges, judge_specs, judges_of_options
from mgen.workflows.judges import JUDGES

MODULE = """
    import numpy as np
    from mgen.judgement import Judge, Judgement

    class Low:
        '''Minus the mean pitch above `limit`; needs notes.'''
        worst = -100.0

        def __init__(self, limit=60, unit=1.0):
            if limit < 0:
                raise ValueError("limit must be at least 0")
            self.limit, self.unit = limit, unit

        def __call__(self, notes):
            defined = notes.counts > 0
            total = np.bincount(notes.piece, weights=np.maximum(notes.pitch - self.limit, 0), minlength=notes.n_pieces)
            score = np.where(defined, -self.unit * total / np.maximum(notes.counts, 1), self.worst)
            return Judgement(np.maximum(score, self.worst).astype(np.float32), None, defined)

    class Wide(Low):
        def __call__(self, notes):
            judgement = super().__call__(notes)
            return Judgement(judgement.score.astype(np.float64), None, judgement.defined)

    class Hopeful(Low):
        '''Right for an empty piece, and NaN for any other.'''
        def __call__(self, notes):
            judgement = super().__call__(notes)
            score = np.where(judgement.defined, np.nan, self.worst).astype(np.float32)
            return Judgement(score, None, judgement.defined)

    class Number(Low):
        def __call__(self, notes):
            return 1.0

    class Raises(Low):
        def __call__(self, notes):
            raise KeyError("pitch")

    class NoWorst:
        def __call__(self, notes):
            return None

    class Plain:
        pass

    def of_vocabulary(remi, limit: int = 60) -> Judge:
        return Low(min(limit, remi.vocab_size))

    def command(words: str) -> int:
        raise SystemExit(words)

    TABLE = {"a": 1}
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A module `others_judges` on the path."""
    (tmp_path / "others_judges.py").write_text(textwrap.dedent(MODULE))
    (tmp_path / "needs_missing.py").write_text("import not_there_at_all")
    (tmp_path / "fails.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_an_entry_is_a_word_or_a_mapping():
    spec = JudgeSpec("own_judge:SmallLeaps", 0.5, {"largest": 7})
    mapping = {"judge": "own_judge:SmallLeaps", "weight": 0.5, "arguments": {"largest": 7}}
    assert JudgeSpec.parse(mapping) == spec
    assert JudgeSpec.parse('{judge: "own_judge:SmallLeaps", weight: 0.5, arguments: {largest: 7}}') == spec
    assert JudgeSpec.parse("own_judge:SmallLeaps=0.5") == JudgeSpec("own_judge:SmallLeaps", 0.5)
    assert JudgeSpec.parse("style", weight=1.0) == JudgeSpec.parse({"judge": "style"}, weight=1.0)
    assert judge_specs(["style=1", "loops=.5"], JUDGES) == [JudgeSpec("style", 1.0), JudgeSpec("loops", 0.5)]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("style", "expected NAME=WEIGHT, got 'style'"),
        ("stile=1", "no judge is called 'stile'; did you mean 'style'"),
        ("style=a lot", "the weight of 'style' is not a number: 'a lot'"),
        ("style=nan", "the weight of 'style' is not a number: 'nan'"),
        ("own.judge=1", "no judge is called 'own.judge'"),
        (":Judge=1", "no judge is called ':Judge'"),
        ("{judge: style", "is not YAML"),
        ({"judge": "style"}, "expected {judge: NAME, weight: NUMBER"),
        ({"judge": "style", "weight": 1, "argument": {}}, "expected {judge: NAME, weight: NUMBER"),
        ({"judge": "style", "weight": 1, "arguments": [1]}, "expected {judge: NAME, weight: NUMBER"),
        ({"judge": "style", "weight": None}, "is not a number"),
        ("density=1", "the judge 'density' was removed: its AUC of real jazz above"),
    ],
)
def test_mistakes_in_an_entry_are_one_line(entry, message):
    with pytest.raises(MgenError) as caught:
        judge_specs([entry], JUDGES)
    assert message in str(caught.value) and str(caught.value).startswith("judges: ") and "\n" not in str(caught.value)


def test_a_name_stands_once():
    with pytest.raises(MgenError, match="'style' is named twice"):
        judge_specs(["style=1", "style=2"], JUDGES)


def test_another_packages_judge_takes_its_arguments_and_the_encoding(package, remi, demo_pieces):
    notes = Notes.from_scores(demo_pieces)
    mean = np.bincount(notes.piece, weights=np.maximum(notes.pitch - 50, 0)) / notes.counts
    for name in ("Low", "of_vocabulary"):
        judge = build_judge(JudgeSpec(f"others_judges:{name}", 1.0, {"limit": 50}), JUDGES, remi, credit=True)
        np.testing.assert_allclose(judge(notes).score, -mean, rtol=1e-6)
        assert judge.worst == -100
    judges = judges_of_options(["others_judges:Low=2"], JUDGES, remi, "", "")
    assert judges.description == "2 others_judges:Low"


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("not_there:Low", {}, "no module not_there; pip install the package that holds it"),
        ("others_judges.sub:Low", {}, "no module others_judges.sub"),
        ("needs_missing:Low", {}, "needs_missing needs not_there_at_all, which is not installed"),
        ("fails:Low", {}, "importing fails failed with ZeroDivisionError"),
        ("others_judges:Lo", {}, "others_judges has no 'Lo'; did you mean 'Low'"),
        ("others_judges:Low", {"limits": 3}, "unexpected keyword argument 'limits'; its arguments are: limit, unit"),
        ("others_judges:Low", {"limit": -1}, r"failed with ValueError\('limit must be at least 0'\)"),
        ("others_judges:Plain", {}, "expected a class with __call__"),
        ("others_judges:TABLE", {}, "expected a class with __call__"),
        ("others_judges:command", {"words": "x"}, "expected a class with __call__"),
        ("os:system", {"command": "false"}, "os is of Python's standard library"),
        ("others_judges:NoWorst", {}, "finite worst value.: found NoWorst"),
        ("others_judges:Number", {}, "'a judge returns a Judgement': found float"),
        ("others_judges:Wide", {}, r"'score has one float32 per piece': expected shape \(1,\), found float64"),
        ("others_judges:Raises", {}, r"failed on piece 0 \(0 notes\): KeyError: 'pitch'"),
        ("style", {"largest": 7}, "unexpected keyword argument 'largest'"),
    ],
)
def test_a_judge_that_cannot_be_built_is_one_line(name, arguments, message, package, remi):
    with pytest.raises(MgenError, match=message) as caught:
        build_judge(JudgeSpec(name, 1.0, arguments), JUDGES, remi, critic="")
    assert str(caught.value).startswith(f"judge {name}") and "\n" not in str(caught.value)


def test_a_judge_that_breaks_the_contract_later_stops_in_one_line(package, remi, demo_pieces):
    judges, left_out = build_judges([JudgeSpec("others_judges:Hopeful", 1.0)], JUDGES, remi)
    assert not left_out
    with pytest.raises(MgenError, match=r"'scores are finite': piece 0 \(\d+ notes\) has nan; return the worst value"):
        judged("Hopeful", judges["others_judges:Hopeful"], Notes.from_scores(demo_pieces))
