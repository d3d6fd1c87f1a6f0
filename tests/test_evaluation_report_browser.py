"""The report as a reader meets it: on a screen, on a phone, on paper, by keyboard, without network."""

from __future__ import annotations

import re
import time

import browser
import numpy as np
import pytest
from symusic import core

from mgen.evaluation.columns import MetricColumn, columns
from mgen.evaluation.comparisons import SystemRow
from mgen.evaluation.report import Example, ExamplePiece, Opening, render_report
from mgen.notes import Notes
from mgen.render import audio
from mgen.render.charts import Curve, Distribution
from mgen.stats.intervals import Interval

pytestmark = pytest.mark.slow

SYSTEMS = {
    "real jazz": "real",
    "the prompts' own music": "reference",
    "pretrained": "pretrained",
    "jazz_nats": "tuned",
    "jazz_normalised_over_five_seeds": "tuned",
    "jazz-only fine-tuning": "low_cost_baseline",
    "best of 8": "low_cost_baseline",
    "repetition penalty 1.2": "low_cost_baseline",
    "Markov, order 5": "baseline",
}
GROUPS = ("continuation: the prompt is jazz from the test split", "unconditional: the style token alone")
PARTS = ("distance", "style", "repetition", "harmony", "rhythm", "form")


def example_piece(system, seed):
    rng = np.random.default_rng(seed)
    score = core.ScoreTick(24)
    score.tempos.append(core.TempoTick(0, qpm=120))
    for program in (0, 32):
        track = core.TrackTick("", program, False)
        for i in range(16):
            track.notes.append(core.NoteTick(24 * i, 24, int(rng.integers(40, 80)), 80))
        score.tracks.append(track)
    return ExamplePiece(system, Notes.from_scores([score]), 96, audio.ogg(audio.synthesise(score)), "16 notes")


def full_page():
    """A page with all there can be: nine players, thirty columns, every section."""
    rng = np.random.default_rng(0)
    shown = [column for column in columns("jazz") if column.graded or column.key == "kl_piece"]
    shown += [
        MetricColumn(f"{part}{i}", f"{part} a longer title {i}", "as real", 3, "explained", "", part, i == 0)
        for part in PARTS
        for i in range(5)
    ]
    rows = []
    for group in GROUPS:
        for name, kind in SYSTEMS.items():
            values = {column.key: float(rng.uniform()) for column in shown}
            cells = {
                key: Interval(value, value - 0.1, value + 0.1, 3, (value - 0.05, value + 0.05))
                for key, value in values.items()
            }
            rows.append(SystemRow(name, kind, cells, group))
    values = {name: rng.normal(size=64) for name in SYSTEMS}
    spread = [Distribution("rep4", "repeats", "share", "explained", values, "real jazz", group) for group in GROUPS]
    curve = Curve("KL from the pretrained model", "nats", {name: ([0, 1, 2], [0.0, 1.0, 3.0]) for name in PARTS})
    examples = [
        Example(
            "a very long name of a work " * 3,
            "jazz",
            tag,
            [example_piece(name, i) for i, name in enumerate(SYSTEMS)][::2],
        )
        for tag in ("best", "worst")
    ]
    models = [example_piece(name, 7) for name in list(SYSTEMS)[:4]]
    first = Example("transfer: a work", "jazz", "typical", models[:1] + models[2:], "in the middle of 128 pieces")
    opening = Opening(GROUPS[0], "continues jazz as jazz", first)
    facts = {"config": "\n".join(f"a_long_option_{i}: {i}" for i in range(30)), "path": "/a/long/path" * 20}
    return render_report("mgen: a report", rows, shown, [curve], examples[1:], facts, ["one"], spread, opening=opening)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(full_page(), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def chromium():
    with browser.launch() as running:
        yield running


@pytest.fixture
def opened(chromium, address):
    """Call it with options of a tab for the loaded page."""
    tabs = []

    def load(**options):
        manager = browser.tab(chromium, **options)
        tab = manager.__enter__()
        tabs.append(manager)
        tab.page.goto(address)
        return tab

    yield load
    for manager in tabs:
        manager.__exit__(None, None, None)


def unfold(page):
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_no_errors_no_requests_and_no_sideways_scrolling(opened, address, width):
    tab = opened(width=width)
    unfold(tab.page)
    tab.page.wait_for_function("[...document.querySelectorAll('audio')].every(a => a.readyState > 0)")
    tab.assert_quiet()
    assert {url for url in tab.requests if not url.startswith("data:")} == {address}
    assert browser.overflow(tab.page) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(opened, scheme):
    page = opened(color_scheme=scheme).page
    unfold(page)
    assert browser.contrasts(page) == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) < 200) == (scheme == "dark")


def test_the_keyboard_reaches_everything_and_shows_where_it_is(opened):
    page = opened().page
    page.evaluate("document.querySelectorAll('audio').forEach(audio => audio.removeAttribute('controls'))")
    found = browser.focus_order(page, 400)  # an audio's own buttons would each be a stop
    assert [item["name"] for item in found[:3]] == [
        "Skip to the findings",
        "Piano-roll of pretrained, scrolls sideways",
        "Piano-roll of jazz_nats, scrolls sideways",
    ]
    counts = {tag: sum(item["tag"] == tag for item in found) for tag in ("a", "summary", "div")}
    shown = {
        "a": page.locator("a").count(),
        "summary": page.locator("summary:visible").count(),
        "div": page.locator("[role=region]:visible").count(),
    }
    assert counts == shown
    assert all(item["outline"] >= 1 and item["inside"] and item["name"] for item in found)


def test_the_keyboard_plays(opened):
    page = opened().page
    first = page.locator("audio").first
    first.focus()
    page.keyboard.press("Space")
    page.wait_for_function("() => !document.querySelector('audio').paused")
    for _ in range(3):  # the audio itself, then the buttons within
        assert first.evaluate("audio => audio === document.activeElement")
        assert first.evaluate("audio => getComputedStyle(audio).outlineStyle") == "solid"
        page.keyboard.press("Tab")


def test_one_piece_plays_at_a_time_and_its_head_moves(opened):
    tab = opened()
    page = tab.page
    place = "piece => +piece.querySelector('.pr-head').getAttribute('x1')"
    pieces = page.locator(".piece:has(audio)")
    start = pieces.nth(0).evaluate(place)
    pieces.nth(0).locator("audio").evaluate("audio => audio.play()")
    page.wait_for_function("() => document.querySelector('audio').currentTime > 0.2")
    assert pieces.nth(0).evaluate(place) > start
    assert pieces.nth(0).locator(".pr-head").get_attribute("visibility") == "visible"
    pieces.nth(1).locator("audio").evaluate("audio => audio.play()")
    page.wait_for_function("() => document.querySelectorAll('audio')[1].currentTime > 0.1")  # of 9 seconds
    assert [pieces.nth(i).locator("audio").evaluate("audio => audio.paused") for i in (0, 1)] == [True, False]
    tab.assert_quiet()


def test_a_click_in_a_roll_plays_from_there(opened):
    page = opened().page
    piece = page.locator(".piece:has(audio)").first
    roll = piece.locator(".pr")
    left, step = (float(roll.get_attribute(name)) for name in ("data-left", "data-step"))
    box, width = roll.bounding_box(), float(roll.get_attribute("viewBox").split()[2])
    # the third bar begins after 192 steps: at 24 a quarter and 120 quarters a minute, after 4 seconds
    clicked = time.monotonic()
    roll.click(position={"x": (left + 192 * step) / width * box["width"], "y": box["height"] / 2})
    page.wait_for_function("() => !document.querySelector('audio').paused")
    now = piece.locator("audio").evaluate("audio => audio.currentTime")
    assert 3.5 <= now <= 4.5 + time.monotonic() - clicked  # it plays meanwhile


def test_the_first_screen_has_the_outcome_three_players_and_the_numbers(opened):
    page = opened(width=1400, height=900).page
    last = page.locator("#opening table").bounding_box()
    assert last["y"] + last["height"] <= 900
    assert "The fine-tuned model jazz_nats continues jazz as jazz in" in page.locator(".lead").first.inner_text()
    players = page.locator(".players .piece")
    assert players.locator("h3").all_inner_texts() == ["Before pretrained", "After jazz_nats", "Real music real jazz"]
    assert len({round(box["y"]) for box in (players.nth(i).bounding_box() for i in range(3))}) == 1  # side by side
    assert players.locator("audio").count() == 3 and players.locator("svg.pr").count() == 3
    heads = page.locator("#opening thead th").all_inner_texts()
    names = [head.partition("\n")[0] for head in heads]
    assert names == ["System", "judged jazz", "notes until recognised", "loops", "whole", "KL, nats per piece"]


def test_the_bad_news_is_in_the_visible_part_of_every_table_and_no_table_widens_the_page(opened):
    page = opened(width=1400).page
    for table in page.locator("#numbers .scroll").all():
        for head in table.locator("thead th").all()[:3] if table.is_visible() else ():
            box = head.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= 1400
    assert page.locator("#numbers thead").first.locator("th").all_inner_texts()[1].startswith("whole")
    assert browser.overflow(page) == 0


def test_a_screen_reader_meets_headings_in_order_and_a_name_for_everything(opened):
    page = opened().page
    unfold(page)
    assert browser.heading_problems(page) == [] and browser.unnamed(page) == []


def test_the_first_column_stays_where_a_table_scrolls(opened):
    page = opened(width=390).page
    table = page.locator("#numbers .scroll").first
    name = table.locator("tbody th").first
    before = name.bounding_box()["x"]
    assert table.evaluate("table => (table.scrollLeft = 300, table.scrollLeft)") == 300
    assert name.bounding_box()["x"] == pytest.approx(before, abs=1.5)


def test_it_prints(opened):
    page = opened().page
    pdf = page.pdf(prefer_css_page_size=True)
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf))
    assert pdf.startswith(b"%PDF") and 4 <= pages <= 24 and len(pdf) > 50_000
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible() and not page.locator("audio").first.is_visible()
    page.set_viewport_size({"width": 703, "height": 1000})  # 186 mm, what A4 leaves between the margins
    assert browser.overflow(page) == 0
    wide = "tables => tables.map(table => table.getBoundingClientRect().right).filter(right => right > innerWidth + 1)"
    assert page.locator("table:visible, .pr:visible").evaluate_all(wide) == []


def test_without_scripts_everything_is_there(opened):
    page = opened(java_script_enabled=False).page
    assert page.locator(".piece").count() == 8 and page.locator("audio").first.is_visible()
    assert page.locator("summary").first.is_visible()
