"""A run that was killed goes on where it was, and a corpus is brought up to date by reading what is new."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from symusic import Note, Score, Track

from mgen.corpus import journal
from mgen.corpus import prepare as module
from mgen.corpus.demo import write_demo_corpus
from mgen.corpus.journal import Journal
from mgen.corpus.prepare import JOURNAL, prepare_corpus
from mgen.corpus.reading import Reading, Rules, read_source
from mgen.corpus.scan import Source, scan
from mgen.corpus.shards import Corpus
from mgen.corpus.workers import Failure
from mgen.errors import MgenError
from mgen.notes import Notes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    folder = tmp_path_factory.mktemp("music")
    write_demo_corpus(folder, 5)
    (folder / "jazz" / "broken.mid").write_bytes(b"MThd")
    return folder


def sources_of(folder, more=()):
    return scan(styles=[("jazz", folder / "jazz"), ("other", folder / "other"), *more]).sources


def contents(folder):
    files = [
        path for path in sorted(folder.rglob("*")) if path.is_file() and JOURNAL not in path.relative_to(folder).parts
    ]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


class ProgressRecorder:
    """A progress callback: how many files had been read before, and in all."""

    def __init__(self, stop_at=None):
        self.calls, self.stop_at = [], stop_at

    def __call__(self, line):
        pass

    def count(self, loop, done, total, note):
        self.calls.append(done)
        if self.stop_at is not None and done >= self.stop_at:
            raise KeyboardInterrupt

    @property
    def read_now(self):
        return self.calls[-1] - self.calls[0]


@pytest.fixture
def at_once(monkeypatch):
    """Every file's outcome is written as soon as it is known."""
    monkeypatch.setattr(journal, "PART_SECONDS", -1.0)


@pytest.fixture(scope="module")
def prepared(music, tmp_path_factory):
    """The corpus of all the music, with a part of the journal for each file."""
    out = tmp_path_factory.mktemp("prepared") / "c"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "PART_SECONDS", -1.0)
        prepare_corpus(sources_of(music), out)
    return out


def test_an_interrupted_run_goes_on_and_the_corpus_is_the_same(music, prepared, tmp_path, at_once):
    sources = sources_of(music)
    out = tmp_path / "c"
    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(sources, out, progress=ProgressRecorder(stop_at=17))
    assert not out.exists() and (tmp_path / ".c.part" / JOURNAL).is_dir()
    progress = ProgressRecorder()
    prepare_corpus(sources, out, resume=True, progress=progress)
    assert progress.read_now == len(sources) - 17
    assert contents(out) == contents(prepared)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_nothing_is_read_twice_and_what_changed_is_read_again(music, tmp_path, at_once):
    folder = tmp_path / "music"
    shutil.copytree(music, folder)
    out = tmp_path / "c"
    prepare_corpus(sources_of(folder), out)
    before = contents(out)
    progress = ProgressRecorder()
    prepare_corpus(sources_of(folder), out, resume=True, progress=progress)
    assert progress.read_now == 0 and contents(out) == before
    changed = sorted((folder / "jazz" / "lead_sheets").glob("*.mid"))[0]
    changed.write_bytes(b"no music any more")
    gone = sorted((folder / "other" / "chorales").glob("*.mid"))[0]
    gone.unlink()
    progress = ProgressRecorder()
    manifest = prepare_corpus(sources_of(folder), out, resume=True, progress=progress)
    assert progress.read_now == 1
    assert manifest["rejected"] == {"broken": 1, "unknown format": 1}
    assert manifest["kept"] == len(sources_of(folder)) - 2


def test_what_other_rules_read_is_read_again(music, prepared, tmp_path):
    out = shutil.copytree(prepared, tmp_path / "c")
    progress = ProgressRecorder()
    prepare_corpus(sources_of(music), out, Rules(min_notes=17), resume=True, progress=progress)
    assert progress.read_now == len(sources_of(music))


def test_adding_music_reads_only_it_and_no_piece_changes_its_split(music, tmp_path):
    """Also of a new style, which moves every token's number."""
    few = tmp_path / "music"
    shutil.copytree(music, few)
    (few / "folk").mkdir()
    added = sorted((few / "other" / "folk_tunes").glob("*.mid"))
    for file in added:
        shutil.move(file, few / "folk" / file.name)
    out = tmp_path / "c"
    prepare_corpus(sources_of(few), out)
    old = Corpus.open(out).pieces.set_index("path")
    progress = ProgressRecorder()
    prepare_corpus(sources_of(few, [("folk", few / "folk")]), out, resume=True, progress=progress)
    assert progress.read_now == len(added) == 5
    corpus = Corpus.open(out)
    new = corpus.pieces.set_index("path")
    assert set(new.index) == set(old.index) | {str(few / "folk" / file.name) for file in added}
    assert new.loc[old.index, "split"].tolist() == old["split"].tolist()
    prepare_corpus(sources_of(few, [("folk", few / "folk")]), tmp_path / "rebuilt")
    rebuilt = Corpus.open(tmp_path / "rebuilt")
    assert corpus.remi.fingerprint == rebuilt.remi.fingerprint
    for split in ("train", "test"):
        for one, other in ((corpus, rebuilt), (rebuilt, corpus)):
            table, whole = one.table(split), {}
            for name in ("train", "valid", "judge", "test"):
                part = other.table(name)
                whole |= {row.path: part[i].tolist() for i, row in enumerate(part.rows.itertuples())}
            assert all(table[i].tolist() == whole[row.path] for i, row in enumerate(table.rows.itertuples()))


def test_killed_at_any_moment_no_file_is_lost(music, tmp_path):
    """`kill -9` of the whole process, again and again, until one run gets to the end."""
    script = (
        "import sys, mgen.corpus.journal as j; j.PART_SECONDS = 0.0\n"
        "from mgen.cli.main import run; from mgen.cli.prepare import main\n"
        "if __name__ == '__main__': sys.exit(run(main, sys.argv[1:]))"
    )
    (tmp_path / "door.py").write_text(script)
    words = ["--style", f"jazz={music}/jazz", "--style", f"other={music}/other", "--workers", "2", "--resume", "true"]
    command = [sys.executable, str(tmp_path / "door.py"), *words, "--out", str(tmp_path / "c")]
    part = tmp_path / ".c.part" / JOURNAL

    def parts():
        return len(list(part.rglob("*.parquet")))

    kills, code = 0, None
    while code is None:
        known = parts()
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, start_new_session=True, **silent)
        while process.poll() is None and kills < 2:
            if parts() > known + 2:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.002)
        process.wait()
        code = process.returncode if process.returncode >= 0 else None
    assert code == 0 and kills >= 1
    prepare_corpus(sources_of(music), tmp_path / "whole", options={"collections": [], "instruments": []})
    assert contents(tmp_path / "c") == contents(tmp_path / "whole")
    parts = [pd.read_parquet(path, columns=["path"]) for path in sorted((tmp_path / "c" / JOURNAL).rglob("*.parquet"))]
    assert not pd.concat(parts)["path"].duplicated().any()


def test_a_part_of_the_journal_that_is_damaged_is_read_again(music, prepared, tmp_path):
    out = shutil.copytree(prepared, tmp_path / "c")
    before = contents(out)
    first, second, *_ = sorted((out / JOURNAL).rglob("*.parquet"))
    first.write_bytes(b"PAR1")
    second.unlink()
    progress = ProgressRecorder()
    prepare_corpus(sources_of(music), out, resume=True, progress=progress)
    assert progress.read_now == 2 and contents(out) == before


def test_a_journal_gives_back_what_was_written(music, tmp_path, at_once):
    sources = sources_of(music)[:6]
    rules = Rules()
    readings = [read_source(source, rules) for source in sources]
    stamps = [journal.file_stamp(source.file) for source in sources]
    with Journal(tmp_path / "j", rules.fingerprint) as book:
        for source, stamp, reading in zip(sources, stamps, readings, strict=True):
            book.write(source, stamp, reading)
    again = Journal(tmp_path / "j", rules.fingerprint)
    assert again.known() == set(zip([source.path for source in sources], stamps, strict=True))
    rows = again.rows(sources, stamps)
    assert rows["source"].tolist() == list(range(6))
    seen = 0
    for position, arrays in again.arrays(rows, ["ids", "shingles"]):
        reading = readings[position]
        if not reading.pieces:
            assert rows["reason"][position] == reading.reason
            continue
        (piece,) = reading.pieces
        np.testing.assert_array_equal(arrays["ids"], piece.ids)
        np.testing.assert_array_equal(arrays["shingles"], piece.shingles)
        assert rows["content"][position] == piece.content
        assert (rows["n_notes"][position], rows["tempo"][position]) == (piece.n_notes, piece.facts.tempo)
        seen += 1
    assert seen == sum(bool(reading.pieces) for reading in readings) >= 5
    assert not Journal(tmp_path / "j", "other rules").parts


@pytest.fixture
def same_notes(music, tmp_path):
    """The music with two more files: the same notes under another name, and again with other velocities."""
    folder = tmp_path / "music"
    shutil.copytree(music, folder)
    file = sorted((folder / "jazz" / "lead_sheets").glob("*.mid"))[0]
    shutil.copy(file, folder / "jazz" / "zz_copy.mid")
    softer = Score(file)
    for track in softer.tracks:
        for note in track.notes:
            note.velocity = max(1, note.velocity // 2)
    softer.dump_midi(folder / "other" / "zz_copy_two.mid")
    return folder, file


def test_pieces_of_the_same_notes_are_dropped_and_named(same_notes, tmp_path):
    folder, file = same_notes
    manifest = prepare_corpus(sources_of(folder), tmp_path / "c")
    assert manifest["rejected"]["duplicate"] == 2 and manifest["duplicates"]["exact"] == 2
    rejected = pd.read_csv(tmp_path / "c" / "rejected.csv").set_index("path")
    assert rejected.loc[str(folder / "jazz" / "zz_copy.mid"), "detail"] == f"same notes as {file}"
    kept = prepare_corpus(sources_of(folder), tmp_path / "all", Rules(skip=("duplicates",)))
    assert kept["kept"] == manifest["kept"] + 2


def transposed(file, to, by):
    score = Score(file).shift_pitch(by)
    score.dump_midi(to)


def test_near_duplicates_go_to_one_split_or_are_dropped(music, tmp_path):
    folder = tmp_path / "music"
    shutil.copytree(music, folder)
    originals = sorted((folder / "jazz" / "combo_charts").glob("*.mid"))
    for number, file in enumerate(originals):
        transposed(file, folder / "other" / f"new_name_{number}.mid", 3)
    manifest = prepare_corpus(sources_of(folder), tmp_path / "c")
    assert manifest["duplicates"]["near_pairs"] >= len(originals)
    pieces = Corpus.open(tmp_path / "c").pieces.set_index("path")
    for number, file in enumerate(originals):
        one, other = pieces.loc[str(file)], pieces.loc[str(folder / "other" / f"new_name_{number}.mid")]
        assert (one["split"], one["group"]) == (other["split"], other["group"]) and one["work"] != other["work"]
    assert (pieces.groupby("group")["split"].nunique() == 1).all()
    names = manifest["collection_overlap"]["names"]
    share = np.array(manifest["collection_overlap"]["share"])
    assert share[names.index("combo_charts"), names.index("other")] == 1
    fewer = prepare_corpus(sources_of(folder), tmp_path / "fewer", near_duplicates="drop")
    assert fewer["rejected"]["near duplicate"] >= len(originals)
    assert fewer["kept"] + sum(fewer["rejected"].values()) == fewer["scanned"]
    assert fewer["duplicates"]["near_pairs"] == 0
    loose = prepare_corpus(sources_of(folder), tmp_path / "loose", near_duplicates="ignore")
    assert loose["kept"] == manifest["kept"] and loose["duplicates"]["near_pairs"] == 0
    assert loose["overlap"]["containment"] > manifest.get("overlap", {"containment": 0.0})["containment"]


def test_artists_stay_together_if_asked(music, tmp_path):
    sources = scan(metadata=music / "metadata.csv").sources
    pieces = {}
    for split_by in ("work", "artist"):
        prepare_corpus(sources, tmp_path / split_by, split_by=split_by)
        pieces[split_by] = Corpus.open(tmp_path / split_by).pieces
    by_artist = [table.groupby("artist")["split"].nunique().max() for table in pieces.values()]
    assert by_artist == [max(by_artist), 1]
    assert pieces["artist"]["group"].nunique() <= pieces["artist"]["artist"].nunique()


def test_the_same_on_ray(music, prepared, tmp_path):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    prepare_corpus(sources_of(music), tmp_path / "ray", workers=2, engine="ray")
    assert contents(tmp_path / "ray") == contents(prepared)


def test_a_fault_of_ours_loses_one_file(music, tmp_path, monkeypatch):
    def faulty(source, rules):
        if "lead_sheets" in source.path:
            raise KeyError("onset")
        return read_source(source, rules)

    def here(function, items, workers, limits):
        from mgen.corpus.workers import LimitedCall

        return ((item, LimitedCall(lambda one: faulty(one, Rules()), limits)(item)) for item in items)

    def closing(function, items, workers, limits):
        yield from here(function, items, workers, limits)

    # The cap would stay on this process, and a browser that a later test starts hangs under it.
    monkeypatch.setattr("mgen.corpus.workers._cap_memory", lambda more: None)
    monkeypatch.setitem(module.ENGINES, "local", closing)
    manifest = prepare_corpus(sources_of(music), tmp_path / "c")
    assert manifest["rejected"] == {"broken": 1, "internal error": 5}
    rejected = pd.read_csv(tmp_path / "c" / "rejected.csv")
    assert set(rejected["detail"][rejected["reason"] == "internal error"]) == {"KeyError: 'onset'"}


def test_a_reading_says_why_there_is_no_piece(tmp_path):
    (tmp_path / "a.mid").write_bytes(b"")
    (source,) = scan([tmp_path]).sources
    assert read_source(source, Rules()) == Reading(reason="unknown format", detail="empty file")


def test_notes_of_a_piece_come_back(prepared):
    corpus = Corpus.open(prepared)
    table = corpus.table("train")
    assert Notes.from_ids(list(table), corpus.remi).counts.tolist() == table.rows["n_notes"].tolist()


# ------------------------------------------------------------------ what went wrong once


def small(folder, works=8, styles=("jazz", "other")):
    """`works` files of each style with notes of their own; names of their own in `folder/<style>`."""
    for style in styles:
        (folder / style).mkdir(parents=True)
        for number in range(works):
            tune(folder / style / f"{style} tune {number}.mid", seed=100 * len(style) + number)
    return folder


def tune(path, seed):
    pitches = 48 + np.random.default_rng(seed).integers(0, 30, 64)
    score = Score(480)
    score.tracks.append(Track("a", 0))
    for i, pitch in enumerate(pitches.tolist()):
        score.tracks[0].notes.append(Note(240 * i, 240, pitch, 80))
    score.dump_midi(path)


def sources_in(folder):
    return scan(styles=[(style.name, style) for style in sorted(folder.iterdir())]).sources


def test_a_rejected_file_changes_no_type(tmp_path):
    folder = small(tmp_path / "m")
    rules = Rules("tabs", min_notes=60, max_notes=1000, tab_events=True)
    prepare_corpus(sources_in(folder), tmp_path / "whole", rules)
    (folder / "jazz" / "broken.mid").write_bytes(b"MThd")
    prepare_corpus(sources_in(folder), tmp_path / "c", rules)
    types = [Corpus.open(tmp_path / name).pieces.dtypes.to_dict() for name in ("whole", "c")]
    assert types[0] == types[1] and str(types[1]["track"]) == "int32"
    names = {path.relative_to(path.parents[1]) for path in (tmp_path / "c").rglob("*.npy")}
    assert {str(name) for name in names} == {"0/0.npy"}


def test_what_was_read_outlives_a_late_error_and_other_rules(tmp_path):
    folder = small(tmp_path / "m")
    for file in sorted((folder / "other").glob("*.mid"))[2:]:
        file.unlink()
    out = tmp_path / "c"
    with pytest.raises(MgenError, match="too small to split"):
        prepare_corpus(sources_in(folder), out)
    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(sources_in(folder), out, Rules(min_notes=17), progress=ProgressRecorder(stop_at=0))
    for number in range(10, 14):
        tune(folder / "other" / f"tune {number}.mid", seed=number)
    progress = ProgressRecorder()
    prepare_corpus(sources_in(folder), out, progress=progress)
    assert progress.read_now == 4
    assert len(list((out / JOURNAL).iterdir())) == 1


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_failed_by_the_machine_is_read_again(tmp_path, monkeypatch, overwrite):
    folder = small(tmp_path / "m")
    sources, out = sources_in(folder), tmp_path / "c"

    def slow(function, items, workers, limits):
        for item in items:
            yield item, Failure("timeout", "too slow") if "tune 3" in item.path else function(item)

    monkeypatch.setitem(module.ENGINES, "local", slow)
    assert prepare_corpus(sources, out)["rejected"] == {"timeout": 2}
    monkeypatch.undo()
    if overwrite:  # a second reading of each file, left by an interrupted run
        with pytest.raises(KeyboardInterrupt):
            prepare_corpus(sources, out, overwrite=True, progress=ProgressRecorder(stop_at=len(sources)))
    progress = ProgressRecorder()
    manifest = prepare_corpus(sources, out, resume=True, progress=progress)
    assert manifest["rejected"] == {} and manifest["kept"] == len(sources)
    assert progress.read_now == (0 if overwrite else 2)


def test_a_clock_that_is_set_back_brings_no_old_reading_back(tmp_path):
    """Each part of the journal is one reading of the same file, whose size and time do not change."""
    source, stamp = Source(tmp_path / "a.mid", "a.mid", "jazz", "", ""), (10, 5)

    def read(*outcomes):
        for outcome in outcomes:
            with Journal(tmp_path, "rules") as own:
                own.write(source, stamp, outcome)
        own = Journal(tmp_path, "rules")
        return own, own.rows([source], [stamp])["reason"].tolist(), own.known()

    timeout, known = Failure("timeout", "too slow"), {("a.mid", stamp)}
    own, reasons, seen = read(timeout)
    assert (reasons, seen) == (["timeout"], set())
    ahead = own.parts[0].rename(own.folder / f"{2 * time.time_ns():020d}.parquet")  # read before the clock was set back
    own, reasons, seen = read(Reading(reason="too short"))
    assert (reasons, seen) == (["too short"], known) and own.parts[-1] > ahead
    assert read(timeout)[1:] == (["too short"], known)  # parts of two journals may be in any order
    assert read(Reading(reason="silent"))[1:] == (["silent"], known)


def splits(out):
    pieces = Corpus.open(out).pieces
    return dict(zip(pieces["content"], pieces["split"], strict=True))


def test_splits_are_kept_when_music_is_added_renamed_or_copied(tmp_path):
    folder, out = small(tmp_path / "m"), tmp_path / "c"
    prepare_corpus(sources_in(folder), out)
    old = splits(out)
    for number in range(20, 26):
        tune(folder / "jazz" / f"new {number}.mid", seed=number)
    prepare_corpus(sources_in(folder), tmp_path / "rebuilt")
    rebuilt = splits(tmp_path / "rebuilt")
    assert any(rebuilt[content] != split for content, split in old.items())  # or nothing is shown below
    assert prepare_corpus(sources_in(folder), out, resume=True)["moved"] == 0
    new = splits(out)
    assert {content: new[content] for content in old} == old and set(new.values()) == {*old.values()}
    for file in sorted((folder / "jazz").glob("*.mid")):
        shutil.copy(file, file.with_name(f"a copy of {file.name}"))  # sorts before the original
    for file in sorted((folder / "other").glob("*.mid")):
        file.rename(file.with_name(f"other {file.name}"))
    manifest = prepare_corpus(sources_in(folder), out, resume=True)
    assert manifest["moved"] == 0 and manifest["rejected"] == {"duplicate": 14}
    assert splits(out) == new
    kept = Corpus.open(out).pieces["path"]
    assert not kept.str.contains("a copy of").any()


def test_works_that_turn_out_to_be_one_go_where_they_must_stay_unseen(tmp_path):
    folder, out = small(tmp_path / "m", 30), tmp_path / "c"
    prepare_corpus(sources_in(folder), out)
    pieces = Corpus.open(out).pieces
    trained, tested = (pieces[pieces["split"] == split]["path"].iloc[0] for split in ("train", "test"))
    both = Score(trained)
    end = both.end()
    for note in Score(tested).tracks[0].notes:
        both.tracks[0].notes.append(Note(end + note.time, note.duration, note.pitch, note.velocity))
    both.dump_midi(folder / "jazz" / "medley.mid")
    manifest = prepare_corpus(sources_in(folder), out, resume=True)
    now = Corpus.open(out).pieces.set_index("path")["split"]
    assert (now[trained], now[tested], now[str(folder / "jazz" / "medley.mid")]) == ("test", "test", "test")
    assert manifest["moved"] == 1


def test_a_corpus_whose_table_is_damaged_is_not_split_anew(tmp_path):
    folder, out = small(tmp_path / "m"), tmp_path / "c"
    prepare_corpus(sources_in(folder), out)
    (out / "pieces.parquet").write_bytes(b"PAR1")
    with pytest.raises(MgenError, match="so its splits would be lost; --overwrite assigns new ones"):
        prepare_corpus(sources_in(folder), out, resume=True)
    prepare_corpus(sources_in(folder), out, overwrite=True)


def test_a_part_damaged_inside_is_named(tmp_path):
    folder, out = small(tmp_path / "m"), tmp_path / "c"
    prepare_corpus(sources_in(folder), out)
    (part,) = (out / JOURNAL).rglob("*.parquet")
    content = part.read_bytes()
    part.write_bytes(content[:4] + os.urandom(len(content) // 2) + content[4 + len(content) // 2 :])
    with pytest.raises(
        MgenError, match=r"\.parquet: a damaged part of the journal .*; delete it and give --resume"
    ) as caught:
        prepare_corpus(sources_in(folder), out, resume=True)
    assert "\n" not in str(caught.value)


def test_two_runs_on_one_folder_do_not_mix(tmp_path):
    folder, out = small(tmp_path / "m"), tmp_path / "c"

    class Second(ProgressRecorder):
        def count(self, loop, done, total, note):
            if done == 3:
                with pytest.raises(MgenError, match="another run is writing it"):
                    prepare_corpus(sources_in(folder), out)

    assert prepare_corpus(sources_in(folder), out, progress=Second())["kept"] == 16
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "m"]


def test_names_of_signs_alone_are_works_too(tmp_path):
    folder = small(tmp_path / "m")
    for name, by in (("x", 3), ("y", 5)):
        (folder / "jazz" / name).mkdir()
        transposed(folder / "jazz" / f"jazz tune {by}.mid", folder / "jazz" / name / "@@@.mid", by)
    prepare_corpus(sources_in(folder), tmp_path / "c")
    pieces = Corpus.open(tmp_path / "c").pieces
    assert (pieces["work"] == "@@@").sum() == 2
    assert pieces[pieces["work"] == "@@@"]["split"].nunique() == 1


def test_a_folder_that_cannot_be_read_is_said(tmp_path, monkeypatch):
    folder = small(tmp_path / "m")
    look = os.scandir

    def refused(path):
        if str(path).endswith("other"):
            raise PermissionError(13, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(MgenError, match="other: Permission denied; make it readable"):
        scan([folder])


def test_merges_are_learned_from_train_and_kept_when_the_music_changes(music, tmp_path):
    first = tmp_path / "first"
    manifest = prepare_corpus(sources_of(music), first, merges=60)
    corpus = Corpus.open(first)
    assert manifest["merges"]["learned"] == corpus.remi.merges == 60
    table = corpus.table("train")
    shuffled = np.concatenate([rows["piece"].to_numpy() for _, rows in corpus.token_batches(["train"])])
    pieces = [table[i] for i in np.searchsorted(table.rows["piece"], shuffled)]
    learned = corpus.remi.base.learn_merges(pieces, 60)
    assert learned.fingerprint == corpus.remi.fingerprint == manifest["tokenizer"]
    prepare_corpus(sources_of(music), tmp_path / "plain")
    plain = Corpus.open(tmp_path / "plain")
    np.testing.assert_array_equal(plain.table("train").ids, table.ids)  # shards hold base tokens
    assert plain.fingerprint != corpus.fingerprint and plain.remi.fingerprint == corpus.remi.base.fingerprint
    gone = table.rows["path"].iloc[0]
    less = [source for source in sources_of(music) if source.path != gone]
    prepare_corpus(less, first, merges=60, resume=True)
    assert Corpus.open(first).remi.fingerprint == corpus.remi.fingerprint
    prepare_corpus(less, first, merges=50, resume=True)
    assert Corpus.open(first).remi.merges == 50
