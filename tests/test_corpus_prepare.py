from __future__ import annotations

import errno
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from progress_counts import Counts

from mgen.corpus import shards
from mgen.corpus.clean import normalise
from mgen.corpus.demo import COLLECTIONS, write_demo_corpus
from mgen.corpus.prepare import prepare_corpus
from mgen.corpus.reading import Rules
from mgen.corpus.scan import Source, scan
from mgen.corpus.shards import Corpus
from mgen.corpus.split import SPLITS
from mgen.errors import MgenError
from mgen.formats.files import read_music
from mgen.notes import Notes

pytestmark = pytest.mark.slow

WORKS = 5
BAD = {"text.mid": b"no music", "cut.mid": b"MThd\0\0\0\6\0\1", "none.mid": b""}


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """The embedded corpus, five works a collection, with three broken files and one that is missing."""
    folder = tmp_path_factory.mktemp("music")
    metadata = write_demo_corpus(folder, WORKS)
    lines = metadata.read_text()
    for name, content in BAD.items():
        (folder / name).write_bytes(content)
        lines += f"{name},jazz,broken,,\n"
    metadata.write_text(lines + "gone.mid,jazz,broken,,\n")
    return scan(metadata=metadata).sources


@pytest.fixture(scope="module")
def made(music, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "corpus"
    prepare_corpus(music, out, workers=2, options={"note": "as given"})
    return out


def contents(folder):
    """The files of a corpus but for its journal, whose parts are cut by the clock."""
    files = [
        path for path in sorted(folder.rglob("*")) if path.is_file() and "read" not in path.relative_to(folder).parts
    ]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_every_file_is_kept_or_rejected(music, made):
    kept = pd.read_parquet(made / "pieces.parquet")
    rejected = pd.read_csv(made / "rejected.csv")
    assert sorted([*kept["path"], *rejected["path"]]) == sorted(source.path for source in music)
    assert len(kept) == WORKS * len(COLLECTIONS)
    reasons = {
        path.rsplit("/", 1)[-1]: reason for path, reason in zip(rejected["path"], rejected["reason"], strict=True)
    }
    assert reasons == {
        "text.mid": "unknown format",
        "cut.mid": "broken",
        "none.mid": "unknown format",
        "gone.mid": "missing",
    }
    manifest = Corpus.open(made).manifest
    assert (manifest["scanned"], manifest["kept"]) == (len(music), len(kept))
    assert manifest["rejected"] == {"unknown format": 2, "broken": 1, "missing": 1}
    assert manifest["options"] == {"note": "as given"}


def test_tokens_say_what_the_files_say(music, made):
    corpus = Corpus.open(made)
    seen = 0
    for split in SPLITS:
        table = corpus.table(split)
        for i, row in enumerate(table.rows.itertuples()):
            expected = normalise(read_music(row.path).score, "piano")
            back = Notes.from_ids([table[i]], corpus.remi)
            for column in ("onset", "pitch", "bar"):
                np.testing.assert_array_equal(getattr(back, column), getattr(expected, column))
            np.testing.assert_array_equal(back.bars.beats, expected.bars.beats)
            assert (row.n_notes, row.n_tokens) == (len(expected), len(table[i]))
            seen += 1
    assert seen == WORKS * len(COLLECTIONS)


def test_each_style_has_works_of_its_own_in_every_split(made):
    pieces = Corpus.open(made).pieces
    assert pieces.groupby("style")["split"].nunique().to_dict() == {"jazz": 4, "other": 4}
    assert (pieces.groupby("work")["split"].nunique() == 1).all()
    manifest = Corpus.open(made).manifest
    for style, counts in manifest["pieces"].items():
        own = pieces[pieces["style"] == style]
        assert counts == {split: int((own["split"] == split).sum()) for split in SPLITS}
        assert manifest["tokens"][style] == {
            split: int(own.loc[own["split"] == split, "n_tokens"].sum()) for split in SPLITS
        }


def test_the_number_of_workers_changes_no_byte(music, made, tmp_path):
    prepare_corpus(music, tmp_path / "c", workers=1, options={"note": "as given"})
    assert contents(tmp_path / "c") == contents(made)


def test_the_fingerprint_is_of_the_music(music, made, tmp_path):
    first = Corpus.open(made).fingerprint
    fewer = [source for source in music if source.collection != "blues_piano"]
    assert prepare_corpus(fewer, tmp_path / "fewer")["fingerprint"] != first
    moved = tmp_path / "moved"
    moved.mkdir()
    sources = []
    for number, source in enumerate(music):
        file = moved / f"{number:03d}.mid"
        if source.file.exists():
            shutil.copy(source.file, file)
        sources.append(Source(file, str(file), source.style, source.collection, source.work))
    assert prepare_corpus(sources, tmp_path / "there")["fingerprint"] == first


def test_the_band_recipe_keeps_programs(music, tmp_path):
    prepare_corpus(music, tmp_path / "band", Rules("band"))
    corpus = Corpus.open(tmp_path / "band")
    assert corpus.remi.multi
    programs = {int(program) for split in SPLITS for program in corpus_programs(corpus, split)}
    assert -1 in programs and 0 in programs and len(programs) > 2
    assert corpus.pieces["n_programs"].max() > 1


def corpus_programs(corpus, split):
    table = corpus.table(split)
    return np.unique(Notes.from_ids(list(table), corpus.remi).program)


def test_rules_reject(music, tmp_path):
    manifest = prepare_corpus(music, tmp_path / "grid", Rules(on_grid_only=True))
    performed = sum(where.performed for where in COLLECTIONS.values()) * WORKS
    assert performed - 1 <= manifest["rejected"]["off grid"] <= performed
    assert Corpus.open(tmp_path / "grid").pieces["on_grid"].all()
    with pytest.raises(MgenError, match=r"none of 44 files could be kept; 44 files were rejected \(too few notes 40, "):
        prepare_corpus(music, tmp_path / "few", Rules(min_notes=10**6))
    assert [path.name for path in (tmp_path / "few").iterdir()] == ["rejected.csv"]


def test_a_corpus_is_replaced_only_when_asked_and_when_the_new_one_is_whole(music, made, tmp_path, monkeypatch):
    out = tmp_path / "corpus"
    shutil.copytree(made, out)
    before = contents(out)
    with pytest.raises(MgenError, match="holds a corpus already; give --resume to update it, --overwrite"):
        prepare_corpus(music, out)
    with pytest.raises(MgenError, match="too small to split"):
        prepare_corpus(music[:3], out, overwrite=True)
    assert contents(out) == before
    fewer = [source for source in music if source.collection != "blues_piano"]
    assert prepare_corpus(fewer, out, overwrite=True)["kept"] == len(Corpus.open(out).pieces) == 35
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_a_corpus_that_was_moved_away_when_the_run_was_killed_is_put_back(music, made, tmp_path):
    shutil.copytree(made, tmp_path / ".corpus.old")
    with pytest.raises(MgenError, match="holds a corpus already"):
        prepare_corpus(music, tmp_path / "corpus")
    assert contents(tmp_path / "corpus") == contents(made)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_something_else_is_left_alone(music, tmp_path, overwrite):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(MgenError, match="holds something other than a corpus"):
        prepare_corpus(music, tmp_path, overwrite=overwrite)
    with pytest.raises(MgenError, match="something other"):
        prepare_corpus(music, tmp_path / "thesis.txt", overwrite=overwrite)
    assert contents(tmp_path) == {"thesis.txt": b"years of work"}


@pytest.mark.parametrize("allowed", [0, 1, 3])
def test_a_full_disk_is_one_line_and_leaves_the_old_corpus_whole(music, made, tmp_path, monkeypatch, allowed):
    out = tmp_path / "corpus"
    shutil.copytree(made, out)
    write = shards.GroupWriter.flush
    calls = []

    def full(self):
        calls.append(self)
        if len(calls) > allowed:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self)

    monkeypatch.setattr(shards.GroupWriter, "flush", full)
    with pytest.raises(MgenError, match=r"No space left on device.*; free some space") as caught:
        prepare_corpus(music, out, overwrite=True)
    assert "\n" not in str(caught.value)
    assert contents(out) == contents(made)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".corpus.part", "corpus"]
    assert [path.name for path in (tmp_path / ".corpus.part").iterdir()] == ["lock", "read"]  # what was read is kept
    monkeypatch.undo()
    progress = Counts()
    prepare_corpus(music, out, resume=True, options={"note": "as given"}, progress=progress)
    assert len(progress.counts) == 1 and contents(out) == contents(made)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_a_folder_named_like_a_file_is_rejected(music, tmp_path):
    (tmp_path / "folder.mid").mkdir()
    odd = Source(tmp_path / "folder.mid", "folder.mid", "jazz", "odd", "odd")
    manifest = prepare_corpus([*music, odd], tmp_path / "c")
    assert manifest["rejected"]["unreadable"] == 1


def test_an_unknown_recipe_is_said(music, tmp_path):
    with pytest.raises(MgenError, match="recipe 'guitar': expected one of piano, band, tabs"):
        prepare_corpus(music, tmp_path / "c", Rules("guitar"))


def test_the_manifest_is_what_is_returned(music, made, tmp_path):
    manifest = prepare_corpus(music, tmp_path / "c", options={"note": "as given"})
    assert manifest == json.loads((tmp_path / "c" / "corpus.json").read_text())
