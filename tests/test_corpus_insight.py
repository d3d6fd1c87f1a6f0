from __future__ import annotations

import json
import re
from dataclasses import asdict

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from html_page import Page
from symusic import core

from mgen.corpus.clean import CLEANING_STEPS
from mgen.corpus.insight import Chart, count_notes, measure_corpus
from mgen.corpus.insight_page import chart_svg, phase_svg, render_insight, shortcut_svg
from mgen.corpus.shards import VERSION, Corpus
from mgen.corpus.shortcuts import COLUMNS, NOTE_COUNTS, Shortcut, StyleAccuracy, describe
from mgen.errors import MgenError
from mgen.notes import Notes

pytestmark = pytest.mark.slow

NASTY = "</style><script>alert('x')</script> & \"friends\""

# (onset, duration, pitch) in steps of 24 a quarter
SWUNG = [(0, 16, 60), (16, 8, 62), (24, 16, 64), (40, 8, 65), (48, 36, 72), (84, 12, 60)]
STRAIGHT = [(0, 12, 48), (12, 12, 50), (24, 24, 52), (24, 24, 55), (48, 18, 57), (60, 6, 55)]


def notes_of(notes):
    score = core.ScoreTick(24)
    track = core.TrackTick("", 0, False)
    for onset, duration, pitch in notes:
        track.notes.append(core.NoteTick(onset, duration, pitch, 64))
    score.tracks.append(track)
    return Notes.from_scores([score])


def write_corpus(folder, remi, rows, music, order=None, **manifest):
    """A corpus with a piece of `music` for each of `rows`; shards hold the pieces in `order`."""
    (folder / "tokens").mkdir(parents=True)
    remi.save_pretrained(folder / "tokenizer")
    ids = [remi.encode(notes_of(notes))[0].astype(np.uint16) for notes in music]
    table = pd.DataFrame(rows)
    table["n_notes"] = [len(notes) for notes in music]
    table["n_tokens"] = [len(one) for one in ids]
    table["n_bars"] = 1
    table.to_parquet(folder / "pieces.parquet")
    order = list(range(len(ids))) if order is None else order
    shard = pa.table(
        {"piece": pa.array(order, pa.int32()), "ids": pa.array([ids[i] for i in order], pa.list_(pa.uint16()))}
    )
    pq.write_table(shard, folder / "tokens" / "train-00000.parquet")
    facts = {
        "version": VERSION,
        "fingerprint": "0123",
        "recipe": "piano",
        "tokenizer": remi.fingerprint,
        "scanned": len(rows),
        "rejected": {},
        "shards": [{"file": "train-00000.parquet", "split": "train", "tokens": int(table["n_tokens"].sum())}],
        "cleaning": {},
        "duplicates": {"exact": 0},
        "collection_overlap": {"names": [], "share": []},
        "options": {},
    }
    (folder / "corpus.json").write_text(json.dumps(facts | manifest))
    return Corpus.open(folder)


def row(i, style, **columns):
    """A row as `mgen prepare` writes it, of a file that says nothing."""
    named = {name: 1 for name in COLUMNS} | {"on_grid": True, "tempo": np.nan}
    named |= {name: "" for name in ("format", "instrument", "time_signature", "metre")}
    named |= {"style": style, "collection": f"{style}_files", "work": f"{style} {i}", "group": f"{style} {i}"}
    return named | {"split": ("train", "valid", "judge", "test")[i % 4]} | columns


@pytest.fixture(scope="module")
def swing_and_straight(tmp_path_factory, remi):
    rows = [row(i, style) for style in ("jazz", "other") for i in range(4)]
    music = [SWUNG] * 4 + [STRAIGHT] * 4
    return write_corpus(tmp_path_factory.mktemp("two") / "corpus", remi, rows, music)


@pytest.fixture(scope="module")
def found(swing_and_straight):
    return measure_corpus(swing_and_straight)


def chart(found, key):
    return next(chart for chart in found.charts if chart.key == key)


def test_notes_are_counted_by_style(found):
    jazz, other = found.styles["jazz"], found.styles["other"]
    assert (jazz.pieces, jazz.works, jazz.notes) == (4, 4, 24) and found.works == 8
    assert jazz.tokens > jazz.notes * 3 and other.bars == 4
    pitch = dict(zip(range(12, 120), chart(found, "pitch").counts["jazz"], strict=True))
    assert {p: n for p, n in pitch.items() if n} == {60: 8, 62: 4, 64: 4, 65: 4, 72: 4}
    classes = chart(found, "classes")
    assert {name: n for name, n in zip(classes.labels, classes.counts["other"], strict=True) if n} == {
        "C": 4, "D": 4, "E": 4, "G": 8, "A": 4,
    }  # fmt: skip
    octaves = chart(found, "octaves")
    assert dict(zip(octaves.labels, octaves.counts["jazz"], strict=True)) == {
        **{str(octave): 0 for octave in range(9)}, "4": 20, "5": 4,
    }  # fmt: skip
    bars = chart(found, "metres")
    assert dict(zip(bars.labels, bars.counts["jazz"], strict=True))["4/4"] == 4


def test_durations_have_their_names_and_shares(found):
    durations = chart(found, "durations")
    jazz = dict(zip(durations.labels, durations.counts["jazz"], strict=True))
    assert {name: n for name, n in jazz.items() if n} == {
        "eighth triplet, 1/3": 8, "eighth, 1/2": 4, "quarter triplet, 2/3": 8, "dotted quarter, 3/2": 4,
    }  # fmt: skip
    assert "jazz: 16.7% dotted, 66.7% triplet" in durations.note  # 1 and 4 of 6
    row_ = found.collections[0]
    assert (row_.style, row_.dotted, row_.triplet) == ("jazz", pytest.approx(1 / 6), pytest.approx(4 / 6))
    other = dict(zip(durations.labels, durations.counts["other"], strict=True))
    assert other["dotted eighth, 3/4"] == 4 and other["any other"] == 0


def test_onsets_swing_and_polyphony(found):
    # onsets 0 16 | 0 16 | 0 | 12 (84 = 3 quarters and 12 steps)
    phase = dict(enumerate(chart(found, "phase").counts["jazz"]))
    assert {step: n for step, n in phase.items() if n} == {0: 12, 12: 4, 16: 8}
    swing = chart(found, "swing")
    assert swing.medians == {"jazz": 2.0, "other": 1.0}  # 16 : 8 and 12 : 12
    class_of_two = np.searchsorted(swing.edges, 2.0) - 1
    assert swing.counts["jazz"][class_of_two] == 4 and sum(swing.counts["jazz"]) == 4
    polyphony = chart(found, "polyphony")
    # straight: 12 + 12 + 24 + 24 + 18 + 6 steps of notes over 66 steps
    assert polyphony.medians["other"] == pytest.approx(96 / 66)


def test_pieces_off_the_grid_stay_out_of_swing_and_named_durations(tmp_path, remi):
    rows = [row(i, "jazz", on_grid=i < 3) for i in range(4)]
    found = measure_corpus(write_corpus(tmp_path / "c", remi, rows, [SWUNG] * 3 + [STRAIGHT]))
    assert sum(chart(found, "swing").counts["jazz"]) == 3
    assert sum(chart(found, "durations").counts["jazz"]) == 18
    assert sum(chart(found, "phase").counts["jazz"]) == 23  # straight has a chord
    assert found.collections[0].on_grid == 0.75


def test_hours_are_quarters_at_the_tempo(tmp_path, remi):
    rows = [row(i, "jazz", tempo=60.0) for i in range(4)]
    assert measure_corpus(write_corpus(tmp_path / "a", remi, rows, [SWUNG] * 4)).hours["jazz"] == pytest.approx(
        16 / 3600
    )
    retimed = [entry | {"on_grid": False} for entry in rows]
    cleaning = {"clock": {"notes": 24, "files": 4}}
    corpus = write_corpus(tmp_path / "b", remi, retimed, [SWUNG] * 4, cleaning=cleaning)
    assert measure_corpus(corpus).hours["jazz"] == pytest.approx(8 / 3600)  # bars of two seconds


def test_pieces_are_known_in_any_order_of_the_shards(tmp_path, remi):
    rows = [row(i, "jazz") for i in range(4)]
    music = [[(0, 24, 60 + i)] for i in range(4)]
    corpus = write_corpus(tmp_path / "c", remi, rows, music, order=[2, 0, 3, 1])
    counts = count_notes(corpus, corpus.pieces, np.array([True, False, True, True]))
    assert counts.rows["work"].tolist() == ["jazz 0", "jazz 2", "jazz 3"]
    assert counts.pitch.argmax(axis=1).tolist() == [60, 62, 63]


def test_the_recipe_band_counts_programs(tmp_path, remi):
    rows = [row(i, "jazz") for i in range(4)]
    found = measure_corpus(write_corpus(tmp_path / "c", remi, rows, [SWUNG] * 4, recipe="band"))
    programs = chart(found, "programs")
    assert programs.labels == ("acoustic grand piano", "any other") and programs.counts == {"jazz": [24, 0]}


def test_a_sample_is_of_each_style_and_its_seeds(swing_and_straight):
    first, again, other = (measure_corpus(swing_and_straight, sample=2, seed=seed) for seed in (0, 0, 1))
    assert first.sampled == {"jazz": 2, "other": 2}
    assert asdict(first) == asdict(again) and first.seed != other.seed
    assert first.styles["jazz"].pieces == 4  # the table is read whole
    assert sum(chart(first, "notes").counts["jazz"]) == 4
    assert "2 of 4 pieces of jazz" in Page(render_insight(first)).text


def test_note_counts_of_swing_distinguish_it_from_straight(tmp_path, remi):
    rows = [row(i, style, collection=f"{style} {i % 2}") for style in ("jazz", "other") for i in range(24)]
    found = measure_corpus(write_corpus(tmp_path / "c", remi, rows, [SWUNG] * 24 + [STRAIGHT] * 24))
    shortcuts = {shortcut.key: shortcut for shortcut in found.note_shortcuts}
    assert (
        shortcuts["phase"].works.accuracy
        == shortcuts["phase"].on_grid.accuracy
        == shortcuts["phase"].collections.accuracy
        == 1.0
    )
    assert shortcuts["velocity"].works.accuracy == shortcuts["length"].works.accuracy == 0.5
    assert "still 100 %" in describe(shortcuts["phase"])


# ---------------------------------------------------------------- page


FULL = {
    "cleaning": {"short_notes": {"notes": 1234, "files": 5}},
    "duplicates": {"exact": 3, "near_pairs": 7, "largest_group": 4},
    "chunks": {
        "found": 4321,
        "kept": 16,
        "dropped": {"short chunk": 5, "mostly rests": 4300},
        "split": {"rests": 17, "cut": 3},
    },
    "overlap": {"train": "a/b.mid", "test": "c/d.mid", "containment": 0.625},
    "collection_overlap": {"names": ["jazz_files", NASTY], "share": [[0.0, 0.25], [0.001, None]]},
    "rejected": {"time signature": 2},
    "options": {"recipe": "piano", "collections": ["x"], "on_grid_only": False},
}


@pytest.fixture(scope="module")
def full(tmp_path_factory, remi):
    columns = [
        {
            "collection": NASTY if i % 2 else "plain",
            "group": f"{style} {i}",
            "instrument": NASTY,
            "format": "midi",
            "ticks_per_quarter": 480 if style == "jazz" else 96,
            "tempo": 100.0 + i,
            "time_signature": "6/8" if i % 2 else "",
            "n_tracks": 1 + i % 2,
            "pedal": style == "jazz",
        }
        for style in ("jazz", "other")
        for i in range(8)
    ]
    rows = [row(i % 8, "jazz" if i < 8 else "other", **columns[i]) for i in range(16)]
    folder = tmp_path_factory.mktemp("full") / "corpus"
    corpus = write_corpus(folder, remi, rows, [SWUNG] * 8 + [STRAIGHT] * 8, **FULL)
    (folder / "rejected.csv").write_text("path,reason,detail\na,time signature,9/4 is long\nb,time signature,<b>3/8\n")
    return measure_corpus(corpus)


def test_the_page_has_every_part_and_nothing_from_outside(full):
    html = render_insight(full)
    page = Page(html)
    ids = {attrs["id"] for _, attrs in page.elements if "id" in attrs}
    assert ids >= {"main", "shortcuts", "music", "files", "collections", "splits", "cleaning", "limits", "run"}
    keys = ("notes", "pitch", "classes", "octaves", "durations", "tempo", "metres", "swing", "polyphony", "instrument")
    assert {f"chart-{key}" for key in keys} <= ids
    targets = {attrs["href"] for tag, attrs in page.elements if tag == "a"}
    assert targets and {target.lstrip("#") for target in targets} <= ids
    assert not [tag for tag, _ in page.elements if tag in ("script", "iframe", "object", "img")]
    links = [value for _, attrs in page.elements for name, value in attrs.items() if name in ("src", "href", "action")]
    assert all(link.startswith("#") or link == "data:," for link in links)
    assert not re.search(r"https?://|url\(|@import", html)
    policy = next(attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv"))
    assert policy.startswith("default-src 'none'") and "script" not in policy
    for said in (
        "Ticks per quarter alone: 100 % accuracy",
        "1,234",
        "9/4 is long (1)",
        "62 % of",
        "c/d.mid",
        "< 1 %",
        "near pairs 7",
        "4,321 chunks; 16 were kept; dropped: mostly rests 4,300, short chunk 5.",
        "Splits: a track is split at long rests, 17 times; a chunk is cut",
        "are in the other. In test c/d.mid In train a/b.mid",
    ):
        assert said in page.text, said
    assert CLEANING_STEPS["short_notes"] in page.text


def test_every_table_says_what_it_shows(full):
    html = render_insight(full)
    assert html.count("<table>") == html.count("<caption>") == len(re.findall(r"<caption>[^<]+\.</caption>", html)) > 5
    assert html.startswith("<!doctype html>")


def test_names_are_escaped_everywhere(full):
    html = render_insight(full)
    page = Page(html)
    assert "<script" not in html and "<b>3/8" not in html
    assert page.text.count("alert('x')") >= 3  # collections, their overlap, instruments


def test_what_there_is_none_of_is_said(found):
    text = Page(render_insight(found)).text
    for said in (
        "Tempo of the file: no data.",
        "No test piece overlaps a train piece.",
        "None of 8 files was rejected.",
    ):
        assert said in text, said
    assert "chart-tempo" not in render_insight(found) and "chunks" not in text


def test_one_style_has_nothing_to_classify(tmp_path, remi):
    rows = [row(i, "jazz") for i in range(4)]
    found = measure_corpus(write_corpus(tmp_path / "c", remi, rows, [SWUNG] * 4))
    assert found.column_shortcuts == found.note_shortcuts == []
    assert "There is only one style, so there is nothing to classify." in Page(render_insight(found)).text


def test_seven_styles_one_piece_each(tmp_path, remi):
    rows = [row(0, f"style_{i}") for i in range(7)]
    found = measure_corpus(write_corpus(tmp_path / "c", remi, rows, [[(0, 500, 60)]] * 7))
    text = Page(render_insight(found)).text
    assert "style_6" in text and found.note_shortcuts == []


def test_a_work_in_two_splits_is_said(tmp_path, remi):
    rows = [row(i, "jazz", group="one" if i < 2 else str(i)) for i in range(4)]
    found = measure_corpus(write_corpus(tmp_path / "c", remi, rows, [SWUNG] * 4))
    assert found.shared_works == 1 and found.works == 3
    assert "1 works are in more than one split" in Page(render_insight(found)).text


def test_json_holds_all_and_no_nan(full):
    plain = asdict(full)
    again = json.loads(json.dumps(plain, allow_nan=False))
    assert again["styles"]["jazz"]["pieces"] == 8 and again["rejected"][0][:2] == ["time signature", 2]
    assert {shortcut["key"] for shortcut in again["column_shortcuts"]} >= {"ticks_per_quarter", "pedal"}


def heights(svg, name):
    return [float(h) for h in re.findall(rf'<rect class="{name}"[^>]*height="([\d.]+)"', svg)]


def test_upright_bars_are_as_high_as_their_share():
    drawn = Chart("k", "T", "x", "notes", {"a": [1, 3], "b": [10, 10]}, labels=("C", "D"))
    svg = chart_svg(drawn, {"a": 0, "b": 1})
    a, b = heights(svg, "f0"), heights(svg, "f1")
    assert a[1] == pytest.approx(3 * a[0], abs=0.4) and b[0] == b[1] == pytest.approx(2 * a[0], abs=0.4)
    assert "a, D: 3 of 4 notes, 75.0%" in svg and "a most at D, 75 %" in svg


def test_lying_bars_and_steps_keep_to_their_frame():
    long = Chart("k", "T", "x", "pieces", {"a": [1, 3], "b": [4, 0]}, labels=("a long name <&>", "another"))
    svg = chart_svg(long, {"a": 0, "b": 1})
    wide = [float(w) for w in re.findall(r'<rect class="f0"[^>]* width="([\d.]+)"', svg)]
    assert wide[1] == pytest.approx(3 * wide[0], abs=0.4) and "a long name &lt;&amp;&gt;" in svg
    steps = Chart("k", "T", "x", "pieces", {"a": [1, 3]}, edges=(1.0, 2.0, 4.0), log=True, marks=((2.0, "two"),))
    line = re.search(r'<polyline class="s0" points="([^"]+)"', chart_svg(steps, {"a": 0})).group(1)
    x, y = np.array([point.split(",") for point in line.split()], float).T
    assert x[2] - x[1] == pytest.approx(x[4] - x[3], abs=0.2)  # an octave is an octave
    assert (y[0] - y[3]) == pytest.approx(3 * (y[0] - y[1]), abs=0.4)
    assert x.min() >= 0 and x.max() <= 400


def test_little_pictures():
    assert phase_svg([0] * 24, 0) == ""
    assert phase_svg([2] + [1] * 2 + [0] * 21, 3).count("<rect") == 3
    shortcut = Shortcut("phase", NOTE_COUNTS["phase"], StyleAccuracy(0.75, 0.05, 0.5, 9))
    svg = shortcut_svg(shortcut)
    assert svg.count("<circle") == 1 and 'cx="103.0"' in svg  # 4 + 132 * 0.75


# ---------------------------------------------------------------- mistakes


def rewrite(corpus, change):
    change(corpus.folder)
    return Corpus.open(corpus.folder)


def without_column(folder):
    path = folder / "pieces.parquet"
    pd.read_parquet(path).drop(columns="on_grid").to_parquet(path)


def without_pieces(folder):
    path = folder / "pieces.parquet"
    pd.read_parquet(path).iloc[:0].to_parquet(path)


def fewer_pieces(folder):
    path = folder / "pieces.parquet"
    pd.read_parquet(path).iloc[:3].to_parquet(path)


def more_pieces(folder):
    path = folder / "pieces.parquet"
    pd.concat([pd.read_parquet(path)] * 2).to_parquet(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without_column, "expected the column on_grid"),
        (without_pieces, "expected pieces, found none"),
        (fewer_pieces, "holds a piece that is not in pieces.parquet"),
        (more_pieces, "found 4 of the 8 pieces sampled"),
        (lambda folder: (folder / "tokens" / "train-00000.parquet").write_bytes(b"PAR1"), "cannot be read"),
        (lambda folder: (folder / "tokens" / "train-00000.parquet").unlink(), "cannot be read"),
        (lambda folder: (folder / "pieces.parquet").unlink(), "cannot be read"),
    ],
)
def test_a_damaged_corpus_is_one_line(tmp_path, remi, change, says):
    corpus = write_corpus(tmp_path / "c", remi, [row(i, "jazz") for i in range(4)], [SWUNG] * 4)
    with pytest.raises(MgenError, match=re.escape(says)) as caught:
        measure_corpus(rewrite(corpus, change))
    assert "\n" not in str(caught.value) and "prepare" in str(caught.value)
