from __future__ import annotations

import base64
import hashlib
import io
import re

import numpy as np
import pytest
import soundfile
from html_page import Page
from symusic import core

from mgen.errors import MgenError
from mgen.evaluation import audio
from mgen.evaluation.intervals import Interval
from mgen.evaluation.report import (
    Cell,
    Column,
    Curve,
    Example,
    Row,
    Take,
    Verdict,
    curve_svg,
    in_words,
    render_report,
    ticks,
    verdict,
)
from mgen.notes import Notes

NASTY = "</script><script>alert('x')</script> & \"friends\""


def tune(seed):
    rng = np.random.default_rng(seed)
    score = core.ScoreTick(24)
    track = core.TrackTick("", 0, False)
    for i in range(16):
        track.notes.append(core.NoteTick(24 * i, 24, int(rng.integers(50, 80)), 80))
    score.tracks.append(track)
    return score


def take(row, seed):
    score = tune(seed)
    return Take(row, Notes.from_scores([score]), 96, audio.ogg(audio.synthesise(score)), f"seed {seed}")


COLUMNS = [
    Column("auc", "told apart", "0.5", 2),
    Column("rep", "repeats", "as real", 2),
    Column("loops", "greedy loops", "lower", 2),
    Column("kl", "KL", "stated", 1, "distance from the pretrained model", "nats"),
]
REAL = {"auc": Cell(0.5, 0.45, 0.55), "rep": Cell(0.14, 0.13, 0.15), "loops": Cell(0.02, 0.01, 0.03)}
BASE = {"auc": Cell(0.9, 0.85, 0.95), "rep": Cell(0.1, 0.09, 0.11), "loops": Cell(0.8, 0.78, 0.82), "kl": Cell(0, 0, 0)}
TUNED = {
    "auc": Cell(0.6, 0.55, 0.65),
    "rep": Cell(0.1, 0.09, 0.11),
    "loops": Cell(0.9, 0.88, 0.92),
    "kl": Cell(7, 6, 8),
}
ROWS = [Row("tuned", "tuned", TUNED), Row("base", "pretrained", BASE), Row("music", "real", REAL)]


@pytest.fixture(scope="module")
def html():
    examples = [
        Example("first prompt", "jazz", "typical", [take("music", 0), take("base", 1)]),
        Example(NASTY, "jazz", "worst", [take("tuned", 2), Take("silent", take("", 3).notes, None)], "by the judge"),
    ]
    curves = [Curve("loss", "nats", {"train": ([0, 1, 2], [3.0, 2.0, 1.0]), NASTY: ([0, 2], [3.0, 1.5])})]
    facts = {"seed": "1", "config": "a: 1\nb: 2", NASTY: NASTY}
    return render_report(NASTY, ROWS, COLUMNS, curves, examples, facts, [NASTY, "one seed"])


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


# ---------------------------------------------------------------- claims


@pytest.mark.parametrize(
    ("better", "after", "expected"),
    [
        ("lower", Cell(0.3, 0.2, 0.39), Verdict.BETTER),
        ("higher", Cell(0.3, 0.2, 0.39), Verdict.WORSE),
        ("lower", Cell(0.3, 0.2, 0.40), Verdict.UNCLEAR),  # the intervals touch
        ("lower", Cell(0.7, 0.61, 0.8), Verdict.WORSE),
        ("higher", Cell(0.7, 0.6, 0.8), Verdict.UNCLEAR),
        ("stated", Cell(0.3, 0.2, 0.39), None),
        ("as real", Cell(0.3, 0.2, 0.39), None),  # there is no real music to be like
        ("lower", Cell(float("nan"), 0.2, 0.39), None),
        ("lower", Cell(0.3, float("nan"), 0.39), None),
    ],
)
def test_a_change_is_claimed_only_where_intervals_lie_apart(better, after, expected):
    assert verdict(Cell(0.5, 0.4, 0.6), after, Column("x", "x", better)) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1.68, Verdict.BETTER), (1.72, Verdict.MOVED), (1.88, Verdict.MOVED), (1.92, Verdict.WORSE)],
)
def test_nearer_to_real_music_only_beyond_the_joint_margin(value, expected):
    # Real music 1.00 +- 0.03; before 0.20 +- 0.048 and after +- 0.064, so their midpoint is +- 0.04 (half of 0.08);
    # together 0.05: clear below a midpoint of 0.95 and above 1.05, which is after = 1.70 and 1.90.
    before, after = Cell(0.2, 0.152, 0.248), Cell(value, value - 0.064, value + 0.064)
    assert verdict(before, after, Column("x", "x", "as real"), Cell(1.0, 0.97, 1.03)) is expected


def test_margins_are_taken_from_the_side_that_matters():
    # The aim is above the midpoint 0.5; only the aim's lower and the numbers' upper margins count against it.
    before, after = Cell(0.0, -9.0, 0.0), Cell(1.0, 0.5, 1.0)
    assert verdict(before, after, Column("x", "x", "as real"), Cell(0.6, 0.55, 9.0)) is Verdict.BETTER
    assert verdict(before, after, Column("x", "x", "as real"), Cell(0.6, 0.45, 9.0)) is Verdict.MOVED


def test_the_interval_of_the_difference_decides_where_it_is_known():
    wide, column = (Cell(0.5, 0.3, 0.7), Cell(0.4, 0.2, 0.6)), Column("x", "x", "lower")
    assert verdict(*wide, column) is Verdict.UNCLEAR
    assert verdict(*wide, column, change=Cell(-0.1, -0.15, -0.05)) is Verdict.BETTER
    apart = Cell(0.5, 0.45, 0.55), Cell(0.4, 0.35, 0.44)
    assert verdict(*apart, column) is Verdict.BETTER
    assert verdict(*apart, column, change=Cell(-0.1, -0.21, 0.01)) is Verdict.UNCLEAR


def test_a_number_to_be_near_to_can_be_overshot():
    column = Column("auc", "AUC", "0.5")
    assert verdict(Cell(0.8, 0.79, 0.81), Cell(0.3, 0.29, 0.31), column) is Verdict.BETTER  # 0.3 off, then 0.2
    assert verdict(Cell(0.8, 0.79, 0.81), Cell(0.1, 0.09, 0.11), column) is Verdict.WORSE  # 0.4 off


def test_in_words():
    assert in_words(ROWS, COLUMNS) == [
        "tuned: better in told apart (0.90 → 0.60; ideal 0.50); worse in greedy loops (0.80 → 0.90); "
        "no clear change in repeats. Still clearly off the aim: told apart and repeats."
    ]


def test_in_words_keeps_groups_apart_and_says_what_moved():
    column = Column("x", "swing", "as real", 1)

    def row(name, kind, group, value):
        return Row(name, kind, {"x": Cell(value, value - 0.04, value + 0.04)}, group)

    rows = [row("real", "real", group, 2.0) for group in ("continue", "turn")]
    rows += [row("base", "pretrained", group, 1.0) for group in ("continue", "turn")]
    rows += [row("nats", "tuned", "continue", 2.0), row("nats", "tuned", "turn", 3.0)]
    assert in_words(rows, [column]) == [
        "nats, continue: better in swing (1.0 → 2.0; real 2.0).",
        "nats, turn: changed, but not clearly for better or worse, in swing (1.0 → 3.0; real 2.0). "
        "Still clearly off the aim: swing.",
    ]


def test_in_words_shows_as_many_digits_as_a_change_needs():
    rows = [
        Row("a", "pretrained", {"x": Cell(0.0012, 0.0011, 0.0013)}),
        Row("b", "tuned", {"x": Cell(0.0031, 0.003, 0.0032)}),
    ]
    assert in_words(rows, [Column("x", "broken", "lower", 2)]) == ["b: worse in broken (0.001 → 0.003)."]


def test_in_words_has_nothing_to_say_without_a_pretrained_row():
    assert in_words([row for row in ROWS if row.kind != "pretrained"], COLUMNS) == []


def test_a_control_is_compared_and_a_reference_is_only_shown():
    rows = [*ROWS, Row("best of 8", "control", TUNED), Row("prompts", "reference", TUNED)]
    assert [line.split(":")[0] for line in in_words(rows, COLUMNS)] == ["tuned", "best of 8"]
    shown = render_report("t", rows, COLUMNS, [], [], {}, []).split("<tbody>")[1]
    assert re.findall(r'<th scope="row">([\w ]+)', shown) == ["music", "prompts ", "base ", "tuned", "best of 8 "]


def test_intervals_of_the_evaluation_are_cells():
    before, after = Interval(0.5, 0.4, 0.6), Interval(0.3, 0.2, 0.35)
    assert verdict(before, after, Column("x", "x", "lower")) is Verdict.BETTER


@pytest.mark.parametrize("better", ["bigger", "", "nan", "inf"])
def test_a_column_must_say_what_is_better(better):
    with pytest.raises(MgenError, match="expected as real, lower, higher, stated or a number"):
        Column("x", "x", better)


# ---------------------------------------------------------------- the page


def test_the_page_nests_and_needs_nothing_from_outside(html, page):
    assert html.startswith("<!doctype html>") and page.all("html", lang="en")
    links = [attrs.get(key) for _, attrs in page.elements for key in ("src", "href", "action", "data", "poster")]
    assert all(link.startswith(("data:", "#")) for link in links if link is not None)
    assert "http:" not in html and "https:" not in html and "url(" not in html and "@import" not in html
    (policy,) = (attrs["content"] for attrs in page.all("meta") if attrs.get("http-equiv"))
    assert "default-src 'none'" in policy


def test_the_only_script_is_ours_and_the_policy_names_its_hash(html, page):
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(scripts) == 1 == len(page.all("script"))
    assert base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode() in html


def test_names_are_escaped_everywhere(html, page):
    assert "alert('x')" not in html
    assert page.text.count(NASTY) >= 6  # title, heading, prompt, series, fact, limit


def test_ids_are_unique_and_anchors_lead_somewhere(page):
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    named = [attrs["aria-labelledby"] for _, attrs in page.elements if "aria-labelledby" in attrs]
    anchors = [attrs["href"][1:] for attrs in page.all("a")]
    assert set(named + anchors) <= set(ids) and len(anchors) >= 6


def test_every_picture_has_words_or_is_hidden_and_what_scrolls_can_be_reached(page):
    pictures = page.all("svg")
    assert len(pictures) > 5
    assert all(svg.get("aria-label") or svg.get("aria-hidden") == "true" for svg in pictures)
    regions = page.all("div", role="region")
    assert regions and all(region["tabindex"] == "0" and region["aria-label"] for region in regions)


def test_real_music_is_the_first_row_and_the_pretrained_model_the_second(html):
    body = html.split("<tbody>")[1].split("</tbody>")[0]
    assert re.findall(r'<th scope="row">(\w+)', body) == ["music", "base", "tuned"]


def test_the_table_shows_numbers_intervals_directions_and_verdicts(html, page):
    for words in ("0.60 0.55 to 0.65", "best: 0.5", "best: as real music", "↓ lower is better", "▲ better", "▼ worse"):
        assert words in page.text
    row = html.split('<th scope="row">tuned')[1].split("</tr>")[0]
    assert re.findall(r'class="mark (\w+)"', row) == ["better", "worse"]
    real = html.split('<th scope="row">music')[1].split("</tr>")[0]
    assert real.count('title="undefined"') == 1  # KL


def test_the_headline_counts(page):
    assert "tuned: of 3 numbers, 1 better and 1 worse than the pretrained model, 1 without clear change." in page.text


def test_the_headline_of_no_change(page):
    rows = [ROWS[1], Row("same", "tuned", ROWS[1].cells), ROWS[2]]
    text = Page(render_report("t", rows, COLUMNS, [], [], {}, [])).text
    assert "same: no clear change from the pretrained model in any of 3 numbers." in text
    assert "▲ better" not in text.replace("▲ clearly better", "")


def test_all_audio_decodes_and_has_sound(page):
    players = page.all("audio")
    assert len(players) == 3  # the fourth take has none
    for player in players:
        kind, _, text = player["src"].partition(",")
        sound, rate = soundfile.read(io.BytesIO(base64.b64decode(text, validate=True)))
        assert kind == "data:audio/ogg;base64" and rate == audio.SAMPLE_RATE
        assert np.sqrt(np.mean(sound**2)) > 0.02 and np.abs(sound).max() <= 1
        assert "controls" in player and player["aria-label"]


def test_every_note_of_every_take_is_drawn(html, page):
    assert sum("pr-note" in rect.get("class", "") for rect in page.all("rect")) == 4 * 16
    assert sum("pr-given" in rect.get("class", "") for rect in page.all("rect")) == 3 * 4  # one has no prompt


def test_takes_of_a_prompt_share_their_axes(html):
    example = html.split('<article class="example">')[1]
    assert len(set(re.findall(r'data-step="([\d.]+)"', example))) == 1
    cs = [re.findall(r'class="pr-c"[^>]*y1="([\d.]+)"', svg) for svg in example.split("<svg")[1:]]
    assert cs[0] == cs[1] and cs[0]


def test_the_playing_head_knows_the_tempo():
    example = Example("p", "jazz", "best", [Take("a", Notes.from_scores([tune(0)]), None, tempo=90.0)])
    assert Page(render_report("t", [], [], [], [example], {}, [])).all(
        "figure", **{"data-rate": "36.0000"}
    )  # 24 steps a quarter, 1.5 quarters a second


def test_facts_limits_and_own_findings_are_shown():
    text = Page(render_report("t", ROWS, COLUMNS, [], [], {"machine": "2 cores"}, ["one seed"], ["My own words."])).text
    assert all(words in text for words in ("My own words.", "machine 2 cores", "one seed", "told apart (0.90"))


def test_a_report_of_nothing_is_still_a_page():
    assert "nothing is compared" in Page(render_report("empty", [], [], [], [], {}, [])).text


# ---------------------------------------------------------------- curves


def points_of(svg):
    return [[tuple(map(float, p.split(","))) for p in line.split()] for line in re.findall(r'points="([^"]+)"', svg)]


def test_a_straight_line_is_drawn_straight_and_fills_the_axes():
    (line,) = points_of(curve_svg(Curve("loss", "nats", {"a": ([0, 50, 100], [0.0, 5.0, 10.0])})))
    (x0, y0), (x1, y1), (x2, y2) = line
    assert (x1, y1) == pytest.approx(((x0 + x2) / 2, (y0 + y2) / 2), abs=0.06)
    assert x0 == 48 and x2 == 430 and y0 > y2  # the axes of the drawing; larger is higher


def test_what_is_not_finite_leaves_a_gap_and_a_lone_point_is_a_dot():
    values = [1.0, 2.0, float("nan"), 3.0, float("inf"), 1.0, 2.0]
    svg = curve_svg(Curve("loss", "", {"a": (list(range(7)), values)}))
    assert [len(line) for line in points_of(svg)] == [2, 2]
    assert svg.count("<circle") == 1
    assert "nan" not in svg and "inf" not in svg


def test_long_curves_are_averaged_and_say_so():
    curve = Curve("loss", "nats", {"a": (list(range(1000)), [float(i % 5) for i in range(1000)])})
    (line,) = points_of(curve_svg(curve))
    assert len(line) == 200  # bins of five, the fewest that leave no more than 240 points
    assert len({y for _, y in line}) == 1  # each bin holds 0, 1, 2, 3, 4
    assert "each point: mean of 5" in Page(render_report("t", [], [], [curve], [], {}, [])).text


def test_a_curve_of_nothing_says_so():
    for series in ({}, {"a": ([], [])}, {"a": ([1], [float("nan")])}):
        assert "nothing was logged" in curve_svg(Curve("loss", "nats", series))


def test_steps_and_values_must_match():
    with pytest.raises(MgenError, match=r"\(2,\) steps but \(1,\) values"):
        curve_svg(Curve("loss", "nats", {"a": ([1, 2], [1.0])}))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0.13, 0.57, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
        (0, 120, [0, 50, 100, 150]),
        (3, 3, [1, 2, 3, 4, 5]),
    ],
)
def test_ticks_are_round_and_span_the_data(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)
