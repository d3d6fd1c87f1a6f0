from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from listen_voter import intended, study

from mgen.errors import MgenError
from mgen.listen import vote_store
from mgen.listen.vote_store import (
    APPLICATION_ID,
    InvalidName,
    ReusedId,
    Study,
    StudyClip,
    Trial,
    Vote,
    VoteStore,
    draw_trials,
)

TESTS = Path(__file__).parent
KILLS = int(os.environ.get("MGEN_KILLS", "40"))


@pytest.fixture
def store(tmp_path):
    opened = VoteStore.open(tmp_path / "votes.sqlite", study(6))
    yield opened
    opened.close()


def rows(path, query="SELECT id, place, choice FROM vote ORDER BY seq"):
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


# ------------------------------------------------------------------------------------------------ killed while voting


def vote_and_kill(path, first, delay):
    """Start a voter, kill it after `delay` seconds; the numbers that it acknowledged."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    words = [sys.executable, "-S", str(TESTS / "listen_voter.py"), str(path), str(first)]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    time.sleep(delay)
    child.kill()
    out, err = child.communicate()
    assert child.returncode == -9, err.decode()
    whole = out[: out.rfind(b"\n") + 1]  # a line may be cut off: its vote was not acknowledged
    return [int(line) for line in whole.split()]


@pytest.mark.slow
def test_kill_9_loses_and_doubles_no_vote(tmp_path):
    """MGEN_KILLS=1000 kills a thousand times."""
    path = tmp_path / "votes.sqlite"
    chance = random.Random(0)
    acknowledged, unacknowledged, began = 0, 0, time.monotonic()
    for _ in range(KILLS):
        numbers = vote_and_kill(path, acknowledged, chance.uniform(0.03, 0.15))
        assert numbers == list(range(acknowledged, acknowledged + len(numbers)))
        acknowledged += len(numbers)
        there = rows(path, "SELECT count(*) FROM sqlite_master") != [(0,)]
        written = len(rows(path)) if there else 0
        assert written in (acknowledged, acknowledged + 1)  # killed between disk and acknowledgement
        unacknowledged += written > acknowledged
    numbers = vote_and_kill(path, acknowledged, 3)
    acknowledged += len(numbers)
    found = rows(path)
    assert found == [intended(number) for number in range(len(found))]
    assert acknowledged <= len(found) <= acknowledged + 1
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    seconds = time.monotonic() - began
    print(f"{KILLS} kills, {len(found)} votes, {unacknowledged} kills between disk and word, {seconds:.0f} s")
    assert len(found) > KILLS


def test_acknowledged_votes_are_on_disk(store):
    """A kill spares the system's caches, a power cut does not: so SQLite has to flush every commit."""
    assert [store._rows(f"PRAGMA {name}") for name in ("journal_mode", "synchronous")] == [
        [("wal",)],
        [(2,)],
    ]  # 2: FULL


def test_the_store_is_light():
    """What writes votes must start at once, after a crash too."""
    script = "import sys; before = set(sys.modules); import mgen.listen.vote_store; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    tops = {name.split(".")[0] for name in done.stdout.split()}
    assert tops - {"mgen"} <= set(sys.stdlib_module_names)


# ------------------------------------------------------------------------------------------------------------- voting


def test_the_same_vote_twice_is_one(store):
    rater = store.rater("Ann")
    assert store.vote(Vote("aaaaaaaa", rater, 0, "a", 3, 4)) is True
    assert store.vote(Vote("aaaaaaaa", rater, 0, "a", 3, 4)) is False
    assert store.counts() == {"raters": 1, "pairs": 6, "votes": 1, "appended": 1}


def test_an_id_is_for_one_vote(store):
    rater = store.rater("Ann")
    store.vote(Vote("aaaaaaaa", rater, 0, "a"))
    for other in (Vote("aaaaaaaa", rater, 0, "b"), Vote("aaaaaaaa", rater, 1, "a"), Vote("aaaaaaaa", 2, 0, "a")):
        with pytest.raises(ReusedId, match="another vote"):
            store.vote(other)
    assert [vote.choice for vote in store.preferences()] == ["a"]


@pytest.mark.parametrize(
    "vote",
    [
        Vote("aaaaaaaa", 1, 6, "a"),  # no such place
        Vote("aaaaaaaa", 1, -1, "a"),
        Vote("aaaaaaaa", 2, 0, "a"),  # no such rater
        Vote("aaaaaaaa", 1, 0, "c"),
        Vote("short", 1, 0, "a"),
        Vote("a" * 65, 1, 0, "a"),
        Vote("aaaaaaaa", 1, 0, "a", -1.0),
        Vote("aaaaaaaa", 1, 0, "a", 1.0, float("nan")),
    ],
)
def test_what_is_no_vote_is_refused_and_leaves_nothing(store, vote):
    store.rater("Ann")
    with pytest.raises(MgenError, match=r"^vote: "):
        store.vote(vote)
    assert store.counts()["appended"] == 0
    assert store.vote(Vote("aaaaaaaa", 1, 0, "a"))


def test_the_last_word_counts_and_undo_opens_the_pair_again(store):
    rater = store.rater("Ann")
    for i, (place, choice) in enumerate([(0, "a"), (1, "b"), (1, "undo")]):
        store.vote(Vote(f"vote000{i}", rater, place, choice))
    assert store.open_places(rater) == [1, 2, 3, 4, 5] and store.last_place(rater) == 0
    store.vote(Vote("vote0003", rater, 1, "tie"))
    store.vote(Vote("vote0004", rater, 0, "b"))
    assert [vote.choice for vote in store.preferences()] == ["tie", "b"]
    assert store.open_places(rater) == [2, 3, 4, 5] and store.last_place(rater) == 0
    assert store.counts() == {"raters": 1, "pairs": 6, "votes": 2, "appended": 5}


def test_a_ballot_names_the_take_that_was_preferred(store):
    """Whoever stood as A: a is the second clip where the trial is swapped."""
    rater = store.rater("Ann")
    for trial in store.trials(rater):
        store.vote(Vote(f"vote000{trial.place}", rater, trial.place, "a", 5, 6))
    found = {preference.pair: preference for preference in store.preferences()}
    for trial in store.trials(rater):
        preference = found[trial.pair]
        assert preference.preferred == (1 if trial.swapped else 0)
        assert (preference.first.system, preference.second.system) == ("real", "model")
        assert preference.first.prompt == preference.second.prompt == f"prompt {trial.pair}"
        assert (preference.rater, preference.seconds_a, preference.seconds_b) == ("Ann", 5, 6)


def test_nothing_is_changed_or_deleted(store):
    rater = store.rater("Ann")
    store.vote(Vote("aaaaaaaa", rater, 0, "a"))
    connection = sqlite3.connect(store.path)
    for statement in (
        "DELETE FROM vote",
        "UPDATE vote SET choice = 'b'",
        "DELETE FROM trial",
        "UPDATE clip SET system = 'x'",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="only appended"):
            connection.execute(statement)
    connection.close()


def test_many_threads_and_two_servers_lose_nothing(store):
    other = VoteStore.open(store.path, study(6))
    rater = store.rater("Ann")

    def many(which, name):
        for i in range(25):
            which.vote(Vote(f"{name}{i:07d}", rater, i % 6, "a"))

    threads = [threading.Thread(target=many, args=pair) for pair in ((store, "a"), (store, "b"), (other, "c"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    assert store.counts()["appended"] == 75


# ------------------------------------------------------------------------------------------------------------- raters


def test_a_rater_comes_back_by_name_and_goes_on(store):
    ann = store.rater("Ann  Lee")
    trials = store.trials(ann)
    store.vote(Vote("aaaaaaaa", ann, 0, "a"))
    store.close()
    again = VoteStore.open(store.path, study(6))
    assert again.rater(" ann lee ") == ann and again.trials(ann) == trials
    assert again.open_places(ann) == [1, 2, 3, 4, 5]
    assert again.rater("Bob") != ann
    again.close()


@pytest.mark.parametrize("name", ["", "  ", "x" * 61, "a\x00b", "a\u202eb", "\ud800"])
def test_a_name_that_is_none(store, name):
    with pytest.raises(InvalidName):
        store.rater(name)
    assert store.counts()["raters"] == 0


def test_a_name_may_be_anything_that_can_be_read(store):
    for name in ("<script>alert(1)</script>", "'; DROP TABLE vote; --", "Åsa 🎷", "x" * 60):
        store.vote(Vote(f"{store.rater(name):08d}", store.rater(name), 0, "a"))
    assert [vote.rater for vote in store.preferences()][:2] == [
        "<script>alert(1)</script>",
        "'; DROP TABLE vote; --",
    ]


def test_sides_are_balanced_within_a_rater_and_exactly_over_two():
    systems = [("a", "b")] * 10 + [("a", "c")] * 7 + [("b", "c")] * 8
    sides = {}
    for number in range(4):
        trials = draw_trials(systems, 3, number)
        assert sorted(trial.pair for trial in trials) == list(range(25))
        assert [trial.place for trial in trials] == list(range(25))
        sides[number] = {trial.pair: trial.swapped for trial in trials}
        for both, n in (("ab", 10), ("ac", 7), ("bc", 8)):
            swapped = sum(sides[number][i] for i, names in enumerate(systems) if "".join(names) == both)
            assert abs(2 * swapped - n) <= 1
    for one, other in ((0, 1), (2, 3)):
        assert all(sides[one][pair] != sides[other][pair] for pair in range(25))
    assert sides[0] != sides[2] and sides[0] != sides[3]
    orders = [[trial.pair for trial in draw_trials(systems, 3, number)] for number in range(6)]
    assert len({tuple(order) for order in orders}) == 6
    assert draw_trials(systems, 3, 0) == draw_trials(systems, 3, 0) != draw_trials(systems, 4, 0)


def test_orders_are_even_over_many_raters():
    """Each pair stands first about equally often: 60 of 600 raters, by 7.3 on average (binomial)."""
    first = Counter(draw_trials([("a", "b")] * 10, 0, number)[0].pair for number in range(600))
    assert len(first) == 10 and all(abs(count - 60) < 5 * 7.4 for count in first.values())


# -------------------------------------------------------------------------------------------------------------- files


def test_votes_of_another_study_are_not_mixed(store):
    with pytest.raises(MgenError, match=r"another study \(6 pairs of real, model; now 7 of real, model\)"):
        VoteStore.open(store.path, study(7))
    with pytest.raises(MgenError, match="another study"):
        VoteStore.open(store.path, study(6, ("real", "other")))


def test_a_study_has_its_tokens_and_names_back(tmp_path):
    clips = (StudyClip("x", "p", "w", "1", (1, 2), (3,)), StudyClip("y", "p", "w", "2"))
    asked = Study("Q?", 9.0, 5, ("x", "y"), clips, ((0, 1),), ("PAD", "Bar"))
    opened = VoteStore.open(tmp_path / "a file #1?.sqlite", asked)
    assert (tuple(opened.clips), opened.question, opened.seed) == (clips, "Q?", 5)
    assert (opened.systems, opened.vocabulary) == (["x", "y"], ["PAD", "Bar"])
    assert [path.name for path in tmp_path.glob("*.sqlite")] == ["a file #1?.sqlite"]
    opened.close()


def test_files_that_are_no_votes(tmp_path, store):
    noise, empty, other = (tmp_path / name for name in ("noise", "empty", "other"))
    noise.write_bytes(b"no database at all" * 100)
    empty.touch()
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE vote (x)")
    connection.commit()
    connection.close()
    for path, says in (
        (noise, "not a votes file"),
        (empty, "empty database"),
        (other, "another program"),
        (tmp_path / "none", "no such file"),
    ):
        with pytest.raises(MgenError, match=says) as caught:
            VoteStore.read(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    for path in (noise, other, tmp_path, tmp_path / "no" / "folder"):
        with pytest.raises(MgenError) as caught:
            VoteStore.open(path, study(6))
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    connection = sqlite3.connect(store.path)
    connection.execute("PRAGMA user_version=3")
    connection.close()
    with pytest.raises(MgenError, match="version 3, this mgen reads 2"):
        VoteStore.read(store.path)


def test_votes_are_read_while_others_vote_and_after(store):
    store.vote(Vote("aaaaaaaa", store.rater("Ann"), 0, "a"))
    reader = VoteStore.read(store.path)
    assert len(reader.preferences()) == 1
    store.vote(Vote("bbbbbbbb", 1, 1, "a"))
    assert len(reader.preferences()) == 2
    with pytest.raises(MgenError, match="cannot be opened or written"):
        reader.rater("Bob")
    reader.close()
    store.close()
    again = VoteStore.read(store.path)
    assert len(again.preferences()) == 2
    again.close()


@pytest.mark.parametrize("accident", ["removed", "replaced", "log removed", "folder moved", "read-only"])
def test_a_file_that_is_lost_while_raters_vote_is_noticed(tmp_path, accident):
    """SQLite goes on writing to a file without a name, and says that all is well."""
    path = tmp_path / "folder" / "votes.sqlite"
    path.parent.mkdir()
    store = VoteStore.open(path, study(6))
    rater = store.rater("Ann")
    assert store.vote(Vote("aaaaaaaa", rater, 0, "a"))
    log = path.with_name("votes.sqlite-wal")
    whole = path.read_bytes(), log.read_bytes()
    if accident in ("removed", "replaced"):
        path.unlink()
    if accident == "replaced":
        path.write_bytes(whole[0])
    if accident == "log removed":
        log.unlink()
    if accident == "folder moved":
        path.parent.rename(tmp_path / "elsewhere")
    if accident == "read-only":
        path.chmod(0o444)
    for action in (lambda: store.vote(Vote("bbbbbbbb", rater, 1, "a")), lambda: store.rater("Bob"), store.counts):
        with pytest.raises(MgenError, match="removed or replaced after it was opened, or is read-only") as caught:
            action()
        assert "\n" not in str(caught.value)
    store.close()


def test_a_file_that_is_lost_within_a_vote_is_noticed(store):
    rater = store.rater("Ann")
    with pytest.raises(MgenError, match="removed or replaced"), store._transaction():
        store.path.unlink()
    with pytest.raises(MgenError, match="removed or replaced"):
        store.vote(Vote("bbbbbbbb", rater, 1, "a"))


def test_a_read_only_file_is_not_opened_for_votes(store):
    store.close()
    store.path.chmod(0o444)
    with pytest.raises(MgenError, match=r"read-only|readonly"):
        VoteStore.open(store.path, study(6))
    VoteStore.read(store.path).close()


# ---------------------------------------------------------------------------------------------------------- version 1


@pytest.fixture
def version_1(tmp_path):
    """A file of version 1: three prompts, one of each type; votes of two raters, one of them withdrawn and replaced."""
    path = tmp_path / "old.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript((TESTS / "votes_version_1.sql").read_text())
    connection.executescript(f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version=1; PRAGMA journal_mode=WAL")
    connection.close()
    return path


def study_of_version_1():
    types = ("continuation", "transfer", "unconditional")
    clips = [
        StudyClip(system, f"{new}/0000 abcd1234", "work 0", f"{system} {old} 0", (1, 2, 0), (3, 0))
        for old, new in zip(("continue", "turn", "nothing"), types, strict=True)
        for system in ("real", "model")
    ]
    return Study("Which?", 20.0, 0, ("real", "model"), tuple(clips), ((0, 1), (2, 3), (4, 5)))


def schema(path):
    tables = [name for (name,) in rows(path, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    pragmas = ("table_info", "foreign_key_list", "index_list")
    found = {(name, pragma): rows(path, f"PRAGMA {pragma}({name})") for name in tables for pragma in pragmas}
    return found, rows(
        path, "SELECT name, tbl_name FROM sqlite_master WHERE type IN ('index', 'trigger') ORDER BY name"
    )


@pytest.mark.parametrize("how", ["read", "open"])
def test_a_file_of_version_1_is_migrated_with_all_votes(version_1, tmp_path, how):
    before = rows(version_1, "SELECT seq, id, rater, place, choice, heard_a, heard_b, at FROM vote")
    store = VoteStore.read(version_1) if how == "read" else VoteStore.open(version_1, study_of_version_1())
    assert store.counts() == {"raters": 2, "pairs": 3, "votes": 4, "appended": 6}
    assert [(v.rater, v.first.prompt.split("/")[0], v.preferred, v.choice) for v in store.preferences()] == [
        ("Ann", "unconditional", 0, "a"),
        ("Ann", "transfer", None, "tie"),
        ("Bob", "continuation", 1, "b"),
        ("Bob", "transfer", 0, "a"),
    ]
    assert store.trials(1) == [Trial(0, 2, False), Trial(1, 1, True), Trial(2, 0, True)]
    assert store.vocabulary == ["PAD_None", "BOS_None", "Bar_None", "Pitch_60"]
    store.close()
    assert rows(version_1, "SELECT seq, id, rater, place, choice, seconds_a, seconds_b, at FROM vote") == before
    VoteStore.open(tmp_path / "new.sqlite", study_of_version_1()).close()
    assert schema(version_1) == schema(tmp_path / "new.sqlite")
    assert rows(version_1, "PRAGMA integrity_check") == [("ok",)] and rows(version_1, "PRAGMA foreign_key_check") == []
    again = VoteStore.open(version_1, study_of_version_1())  # the same study goes on
    again.vote(Vote("newvote1", again.rater("Ann"), 2, "a", 5, 5))
    assert again.counts()["votes"] == 5
    again.close()


def test_a_failed_migration_changes_nothing(version_1, monkeypatch):
    before = version_1.read_bytes()
    monkeypatch.setattr("mgen.listen.vote_store._VERSION_1_TO_2", (*vote_store._VERSION_1_TO_2, "DROP TABLE none"))
    with pytest.raises(MgenError, match="cannot be opened or written"):
        VoteStore.read(version_1)
    monkeypatch.undo()
    assert rows(version_1, "PRAGMA user_version") == [(1,)] and version_1.read_bytes() == before
    VoteStore.read(version_1).close()
    assert rows(version_1, "PRAGMA user_version") == [(2,)]
