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

from mgen.evaluation.columns import SENTENCES, MetricColumn, columns
from mgen.evaluation.comparisons import SystemRow
from mgen.evaluation.report import Example, ExamplePiece, Opening, main_columns, render_report
from mgen.notes import Notes
from mgen.render import audio
from mgen.render.charts import Curve, Distribution
from mgen.stats.intervals import Interval

NASTY = "</script><script>alert('x')</script> & \"friends\""


def tune(seed):
    rng = np.random.default_rng(seed)
    score = core.ScoreTick(24)
    track = core.TrackTick("", 0, False)
    for i in range(16):
        track.notes.append(core.NoteTick(24 * i, 24, int(rng.integers(50, 80)), 80))
    score.tracks.append(track)
    return score


def example_piece(system, seed):
    score = tune(seed)
    return ExamplePiece(system, Notes.from_scores([score]), 96, audio.ogg(audio.synthesise(score)), f"seed {seed}")


COLUMNS = [
    MetricColumn("auc", "two-sample AUC", "0.5", 2),
    MetricColumn("rep", "repeats", "as real", 2),
    MetricColumn("loops", "greedy loops", "lower", 2),
    MetricColumn("kl", "KL", "stated", 1, "distance from the pretrained model", "nats"),
]
REAL = {"auc": Interval(0.5, 0.45, 0.55), "rep": Interval(0.14, 0.13, 0.15), "loops": Interval(0.02, 0.01, 0.03)}
BASE = {
    "auc": Interval(0.9, 0.85, 0.95),
    "rep": Interval(0.1, 0.09, 0.11),
    "loops": Interval(0.8, 0.78, 0.82),
    "kl": Interval(0, 0, 0),
}
TUNED = {
    "auc": Interval(0.6, 0.55, 0.65),
    "rep": Interval(0.1, 0.09, 0.11),
    "loops": Interval(0.9, 0.88, 0.92),
    "kl": Interval(7, 6, 8),
}
ROWS = [SystemRow("tuned", "tuned", TUNED), SystemRow("base", "pretrained", BASE), SystemRow("music", "real", REAL)]


@pytest.fixture(scope="module")
def html():
    examples = [
        Example("first prompt", "jazz", "typical", [example_piece("music", 0), example_piece("base", 1)]),
        Example(
            NASTY,
            "jazz",
            "worst",
            [example_piece("tuned", 2), ExamplePiece("silent", example_piece("", 3).notes, None)],
            "by the judge",
        ),
    ]
    curves = [Curve("loss", "nats", {"train": ([0, 1, 2], [3.0, 2.0, 1.0]), NASTY: ([0, 2], [3.0, 1.5])})]
    facts = {"seed": "1", "config": "a: 1\nb: 2", NASTY: NASTY}
    values = {"music": [0.1, 0.2, np.nan], "base": [0.1, 0.1, 0.1], NASTY: [0.3, 0.2, 0.1]}
    spread = [Distribution("rep", NASTY, NASTY, NASTY, values, "music", group) for group in ("", NASTY)]
    limits = [NASTY, "one seed"]
    return render_report(NASTY, ROWS, COLUMNS, curves, examples, facts, limits, spread)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


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


def systems(html):
    """Names down the first table of numbers."""
    body = html.split('id="numbers"')[1].split("<tbody>")[1].split("</tbody>")[0]
    return [name.strip() for name in re.findall(r'<th scope="row">([^<]+)', body)]


def test_real_music_is_the_first_row_and_the_pretrained_model_the_second(html):
    assert systems(html) == ["music", "base", "tuned"]


def test_the_table_shows_numbers_intervals_directions_and_verdicts(html, page):
    for words in (
        "0.60 ▲ better [0.55, 0.65]",
        "best: 0.5",
        "best: as real music",
        "↓ lower is better",
        "0.90 ▼ worse",
    ):
        assert words in page.text
    row = html.split('id="numbers"')[1].split('<th scope="row">tuned')[1].split("</tr>")[0]
    assert re.findall(r'class="mark (\w+)"', row) == ["better", "worse"]
    real = html.split('<th scope="row">music')[1].split("</tr>")[0]
    assert real.count('title="undefined"') == 1  # KL


def test_the_page_opens_with_the_outcome(html, page):
    # the first of COLUMNS; KL is not in the sentence, because its key is not that of an evaluation
    assert (
        "Two-sample AUC: 0.60 [0.55, 0.65] for the fine-tuned model, 0.90 [0.85, 0.95] for the pretrained one. "
        "Clearly worse: greedy loops (0.80 → 0.90)."
    ) in page.text
    assert (
        html.index('class="lead')
        < html.index('id="opening"')
        < html.index('id="compared"')
        < html.index('id="numbers"')
    )


OPENING = Example(
    "a prompt",
    "jazz",
    "typical",
    [
        ExamplePiece(name, Notes.from_scores([tune(i)]), 96, caption=f"{i} it is")
        for i, name in enumerate(("music", "base", "tuned", "again"))
    ],
    "in the middle",
)


def test_the_first_screen_has_one_prompt_before_after_and_real():
    rows = [*ROWS, SystemRow("again", "tuned", TUNED)]
    html = report(rows, opening=Opening("", "plays jazz", OPENING))
    other = SystemRow("music", "reference", REAL)  # in place of real music, where prompts are of other styles
    own_music = report([*rows[:2], other], opening=Opening("", "plays jazz", OPENING))
    assert re.search(r"<h3>Real music <small[^>]*>music", own_music)
    first = html.split('id="opening"')[1].split("</section>")[0]
    shown, folded = first.split('<details class="extra">')
    assert re.findall(r"<h3>([\w ]+) <small[^>]*>(\w+)", shown) == [
        ("Before", "base"),
        ("After", "tuned"),
        ("Real music", "music"),
    ]
    assert re.findall(r"<b>Listen for:</b> ([^<]+)", shown) == ["1 it is", "2 it is", "0 it is"]
    assert "1 more: again" in folded and folded.count("<figure") == 1
    assert "in the middle" in first and first.count("<table>") == 1
    assert re.findall(r'<th scope="row">(\w+)', first) == ["music", "base", "tuned", "again"]
    assert (
        "best of 8"
        not in report([*rows, BASELINE], opening=Opening("")).split('id="opening"')[1].split("</section>")[0]
    )


def test_the_outcome_of_no_change():
    rows = [ROWS[1], SystemRow("same", "tuned", ROWS[1].metrics), ROWS[2]]
    text = Page(render_report("t", rows, COLUMNS, [], [], {}, [])).text
    assert "0.90 [0.85, 0.95] for the pretrained one: no measured difference." in text
    assert "▲ better" not in text.replace("▲ clearly better", "")


def test_all_audio_decodes_and_has_sound(page):
    systems = page.all("audio")
    assert len(systems) == 3  # the fourth piece has none
    for player in systems:
        kind, _, text = player["src"].partition(",")
        sound, rate = soundfile.read(io.BytesIO(base64.b64decode(text, validate=True)))
        assert kind == "data:audio/ogg;base64" and rate == audio.SAMPLE_RATE
        assert np.sqrt(np.mean(sound**2)) > 0.02 and np.abs(sound).max() <= 1
        assert "controls" in player and player["aria-label"]


def test_every_note_of_every_piece_is_drawn(html, page):
    assert sum("pr-note" in rect.get("class", "") for rect in page.all("rect")) == 4 * 16
    assert sum("pr-given" in rect.get("class", "") for rect in page.all("rect")) == 3 * 4  # one has no prompt


def test_pieces_of_a_prompt_share_their_axes(html):
    example = html.split('<article class="example"')[1]
    assert len(set(re.findall(r'data-step="([\d.]+)"', example))) == 1
    cs = [re.findall(r'class="pr-c"[^>]*y1="([\d.]+)"', svg) for svg in example.split("<svg")[1:]]
    assert cs[0] == cs[1] and cs[0]


def test_the_playing_head_knows_the_tempo():
    example = Example("p", "jazz", "best", [ExamplePiece("a", Notes.from_scores([tune(0)]), None, tempo=90.0)])
    assert Page(render_report("t", [], [], [], [example], {}, [])).all(
        "figure", **{"data-rate": "36.0000"}
    )  # 24 steps a quarter, 1.5 quarters a second


def test_facts_and_limits_are_shown():
    text = Page(render_report("t", ROWS, COLUMNS, [], [], {"machine": "2 cores"}, ["one seed"])).text
    assert all(words in text for words in ("machine 2 cores", "one seed", "two-sample AUC (0.90"))


def test_a_report_of_nothing_is_still_a_page():
    assert "no comparisons" in Page(render_report("empty", [], [], [], [], {}, [])).text


# ---------------------------------------------------------------- many rows and columns


def report(rows=(), columns=COLUMNS, **others):
    """A page of little."""
    return render_report("t", rows, columns, others.pop("curves", []), others.pop("examples", []), {}, [], **others)


BASELINE = SystemRow(
    "best of 8", "low_cost_baseline", {**BASE, "auc": Interval(0.51, 0.5, 0.52), "loops": Interval(0.1, 0.08, 0.12)}
)


def test_the_comparison_says_which_baselines_a_tuned_model_is_behind():
    # tuned has 0.60 two-sample AUC and 0.90 loops: the baseline's 0.51 and 0.10 are both clearly nearer the aim
    part = report([*ROWS, BASELINE]).split('id="compared"')[1].split("</section>")[0]
    assert "tuned is level with base; behind best of 8. best of 8 costs less" in part
    row = part.split('<th scope="row">best of 8')[1].split("</tr>")[0]
    assert re.findall(r"<td[^>]*>([^<]+)", row) == ["▼ behind", "0", "2", "1 worse", "level", "1 worse", "\N{EN DASH}"]
    assert "at least 2" in part


def test_a_control_is_compared_in_the_table_and_a_reference_is_only_shown():
    html = report([*ROWS, BASELINE, SystemRow("prompts", "reference", TUNED)])
    assert systems(html) == ["music", "prompts", "base", "tuned", "best of 8"]
    rows = dict(re.findall(r'<tr class="role-(\w+)[^>]*>(.*?)</tr>', html.split('id="numbers"')[1], re.DOTALL))
    assert re.findall(r'class="mark (\w+)"', rows["low_cost_baseline"]) == ["better", "better"]
    assert not re.findall(r'class="mark (\w+)"', rows["reference"])
    assert len(Page(html).all("article", **{"class": "card"})) == 1  # the tuned row's


MANY = [
    MetricColumn(f"{part}{i}", f"{part} {i}", "as real", group=part, main=i == 0) for part in "abc" for i in range(5)
]


def test_many_columns_have_a_short_table_and_one_for_each_group():
    cells = {column.key: Interval(1, 0.9, 1.1) for column in MANY}
    rows = [
        SystemRow("music", "real", cells),
        SystemRow("base", "pretrained", cells),
        SystemRow("tuned", "tuned", cells),
    ]
    html = report(rows, MANY)
    numbers = html.split('id="numbers"')[1]
    tables = re.findall(r"<caption>([^<]+)<.*?<thead>(.*?)</thead>", numbers, re.DOTALL)
    tables = [(name.strip(), head) for name, head in tables]
    found = [(name, re.findall(r'<th scope="col">([abc] \d)', head)) for name, head in tables]
    assert found == [
        ("All systems", ["a 0", "b 0", "c 0"]),
        *((part, [f"{part} {i}" for i in range(5)]) for part in "abc"),
    ]
    card = html.split('<article class="card">')[1].split("</article>")[0]
    assert "12 other numbers: 12 no clear change" in card
    assert card.index("a 0") < card.index("<details>") < card.index("a 1")


def test_the_main_columns_are_those_marked_or_the_first_of_each_group():
    assert [column.key for column in main_columns(MANY)] == ["a0", "b0", "c0"]
    plain = [MetricColumn(column.key, column.title, "lower", group=column.group) for column in MANY]
    assert [column.key for column in main_columns(plain)] == ["a0", "b0", "c0"]
    assert main_columns(plain[:12]) == plain[:12]


def test_groups_of_rows_are_titled_before_their_colon():
    text = Page(report([SystemRow("base", "pretrained", BASE, "continue: from the test split")])).text
    assert "continue The main numbers of every system; from the test split. System" in text


def test_seeds_are_rings_and_explained():
    with_seeds = SystemRow("tuned", "tuned", {**TUNED, "auc": Interval(0.6, 0.55, 0.65, seeds=(0.58, 0.62))})
    html = report([*ROWS[1:], with_seeds])
    assert html.split('id="numbers"')[1].count('class="seed"') == 2 and "rings are single seeds" in html
    assert "rings are single seeds" not in report(ROWS)


def test_undefined_pieces_are_stated_with_the_number():
    row = SystemRow("tuned", "tuned", {"auc": Interval(0.6, 0.55, 0.65, undefined=7)})
    assert "[0.55, 0.65] 7 undefined" in Page(report([*ROWS[1:], row])).text


def test_without_a_pretrained_model_rows_are_compared_with_the_aim():
    rows = [ROWS[2], SystemRow("folder", "evaluated", {**TUNED, "rep": Interval(0.14, 0.13, 0.15)})]
    pieces = [ExamplePiece(name, Notes.from_scores([tune(i)]), None) for i, name in enumerate(("folder", "music"))]
    html = report(rows, opening=Opening("", "", Example("a piece", "folder", "typical", pieces)))
    text = Page(html).text
    assert html.split('id="opening"')[1].split("</section>")[0].count("<figure") == 2 and "more: folder" not in html
    assert "One piece of each" in text and "are the prompt" not in html.split('id="opening"')[1].split("</section>")[0]
    assert "folder: 1 of 2 main numbers clearly off the aim: two-sample AUC (0.60; ideal 0.50)." in text
    assert "clearly better than the pretrained model" not in text
    off = text.split("clearly off the aim")[1].split("not clearly off it")[0]
    assert "two-sample AUC (0.60; ideal 0.50)" in off
    assert "repeats (0.14; real 0.14)" in text.split("not clearly off it")[1]
    assert "There is no pretrained model" in text


def test_pieces_of_baselines_are_folded():
    example = Example(
        "p", "jazz", "best", [example_piece("music", 0), example_piece("tuned", 1), example_piece("best of 8", 2)]
    )
    html = report([*ROWS, BASELINE], examples=[example])
    shown, folded = html.split('<details class="extra">')
    assert shown.count('<figure class="piece') == 2 and folded.count('<figure class="piece') == 1
    assert "1 more: best of 8" in folded


def test_distributions_are_shown_by_kind_of_prompt():
    values = {"music": [0.1, 0.2], "tuned": [0.3, 0.4]}
    spread = [
        Distribution("rep", "repeats", "", "occurs earlier", values, "music", f"{group}: what it is")
        for group in ("continuation", "transfer", "continuation")
    ]
    html = report(ROWS, distributions=spread)
    parts = html.split('id="distributions"')[1].split("</section>")[0].split("<details")[1:]
    assert [part.count("<figure>") for part in parts] == [2, 1]
    assert [re.findall(r"<summary>([^<]+)", part) for part in parts] == [["continuation"], ["transfer"]]
    assert "lane role-tuned" in parts[0] and "occurs earlier" in parts[0]


def test_long_facts_are_folded():
    facts = {"short": "a\nb", "long": "\n".join(f"line {i}" for i in range(40))}
    html = render_report("t", [], [], [], [], facts, []).split('id="run"')[1]
    assert html.count("<details>") == 1 and "<summary>line 0</summary>" in html and "line 39" in html


def test_a_comparison_counts_the_prompt_types():
    # 0.90 before; 0.60 is better, 0.88 overlaps with it, 0.99 is worse
    values = {
        "continuation: a": Interval(0.6, 0.55, 0.65),
        "transfer: b": Interval(0.88, 0.83, 0.93),
        "unconditional": Interval(0.99, 0.97, 1),
    }
    rows = [SystemRow("base", "pretrained", BASE, group) for group in values]
    rows += [SystemRow("tuned", "tuned", {"auc": auc}, group) for group, auc in values.items()]
    html = report([*rows, *(SystemRow("best of 8", "low_cost_baseline", BASE, group) for group in values)])
    comparison = html.split('<th scope="row">best of 8')[1].split("</tr>")[0]
    assert "1 better, 1 worse of 3" in comparison


def test_every_table_says_what_it_shows():
    cells = {column.key: Interval(1, 0.9, 1.1) for column in columns("jazz")}
    rows = [SystemRow(role, role, cells) for role in ("real", "pretrained", "tuned")]
    captions = re.findall(r"<caption>([^<]+?)\s*<small>([^<]+)</small>", report(rows, columns("jazz")))
    html = report(rows, columns("jazz"))
    assert len(captions) == html.count("<table>") == 3 + len(SENTENCES)
    assert all(sentence.endswith(".") for _, sentence in captions)
    heads = re.findall(r'<th scope="col">([^<]+?),? ?(?:nats per piece)? <small', html.split('id="numbers"')[1])
    assert heads[:3] == ["whole", "KL", "judged jazz"]  # what is bad news is visible without scrolling
