"""Votes of a listening study in one SQLite file: appended, never changed, acknowledged only once they are on disk.

Imports the standard library only, so that a process that writes votes starts quickly. The server decides who may vote;
`ranking.py` analyses the votes.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import sqlite3
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mgen.errors import MgenError

VERSION = 2
APPLICATION_ID = 0x6D67656E  # "mgen"
CHOICES = ("a", "b", "tie", "undo")
MAX_NAME = 60  # characters of a rater's name
MAX_ID = 64  # characters of a vote's id

_SCHEMA = f"""
CREATE TABLE study (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE clip (
  id INTEGER PRIMARY KEY,
  system TEXT NOT NULL, prompt TEXT NOT NULL, work TEXT NOT NULL, digest TEXT NOT NULL,
  prompt_ids TEXT, completion_ids TEXT,
  UNIQUE (system, prompt)
);
CREATE TABLE pair (
  id INTEGER PRIMARY KEY,
  first INTEGER NOT NULL REFERENCES clip, second INTEGER NOT NULL REFERENCES clip,
  UNIQUE (first, second), CHECK (first <> second)
);
CREATE TABLE rater (
  id INTEGER PRIMARY KEY,
  key TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND {MAX_NAME}),
  at REAL NOT NULL
);
CREATE TABLE trial (
  rater INTEGER NOT NULL REFERENCES rater,
  place INTEGER NOT NULL CHECK (place >= 0),
  pair INTEGER NOT NULL REFERENCES pair,
  swapped INTEGER NOT NULL CHECK (swapped IN (0, 1)),
  PRIMARY KEY (rater, place), UNIQUE (rater, pair)
) WITHOUT ROWID;
CREATE TABLE vote (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE CHECK (length(id) BETWEEN 8 AND {MAX_ID}),
  rater INTEGER NOT NULL,
  place INTEGER NOT NULL,
  choice TEXT NOT NULL CHECK (choice IN ('a', 'b', 'tie', 'undo')),
  seconds_a REAL NOT NULL CHECK (seconds_a BETWEEN 0 AND 86400),
  seconds_b REAL NOT NULL CHECK (seconds_b BETWEEN 0 AND 86400),
  at REAL NOT NULL,
  FOREIGN KEY (rater, place) REFERENCES trial (rater, place)
);
CREATE INDEX vote_of_trial ON vote (rater, place, seq);
"""
_VERSION_1_TO_2 = (
    "ALTER TABLE take RENAME TO clip",
    "ALTER TABLE clip RENAME COLUMN player TO system",
    "ALTER TABLE turn RENAME TO trial",
    "ALTER TABLE vote RENAME COLUMN heard_a TO seconds_a",
    "ALTER TABLE vote RENAME COLUMN heard_b TO seconds_b",
    "DROP INDEX vote_of_turn",
    "CREATE INDEX vote_of_trial ON vote (rater, place, seq)",
    "UPDATE study SET name = 'systems' WHERE name = 'players'",
    *(
        f"UPDATE clip SET prompt = '{new}' || substr(prompt, {len(old) + 1}) WHERE prompt GLOB '{old}/*'"
        for old, new in (("continue", "continuation"), ("turn", "transfer"), ("nothing", "unconditional"))
    ),
)
_TABLES = ("study", "clip", "pair", "rater", "trial", "vote")
_LAST = "SELECT max(seq) FROM vote GROUP BY rater, place"  # the last vote of each trial counts


@dataclass(frozen=True, slots=True)
class StudyClip:
    """One system's completion of one prompt."""

    system: str  # `real` is real music
    prompt: str  # name, the same for every system
    work: str  # that the prompt was taken from; empty without one
    digest: str  # hash of the music
    prompt_ids: tuple[int, ...] | None = None  # tokens; None for music without tokens
    completion_ids: tuple[int, ...] | None = None  # likewise


@dataclass(frozen=True, slots=True)
class Study:
    """The pairs that every rater compares."""

    question: str  # shown above each pair
    seconds: float  # longest playing time of a clip
    seed: int  # of pairs and orders
    systems: tuple[str, ...]  # in the order of the tables
    clips: tuple[StudyClip, ...]  # of all pairs
    pairs: tuple[tuple[int, int], ...]  # indices of two clips of one prompt
    vocabulary: tuple[str, ...] | None = None  # names of the tokens by id; None if unknown

    @property
    def fingerprint(self) -> str:
        """Hash of everything a rater is played and asked; votes of two studies are never mixed."""
        content = asdict(self)
        del content["vocabulary"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Trial:
    """One pair for one rater: number `place` (0..) of their list, with the second clip as A if `swapped`."""

    place: int
    pair: int
    swapped: bool


@dataclass(frozen=True, slots=True)
class Vote:
    """A rater's answer to one of their trials."""

    id: str  # chosen by the client and kept over retries, so that a retry is no second vote
    rater: int
    place: int
    choice: str  # one of `CHOICES`; `undo` withdraws the vote before it
    seconds_a: float = 0.0  # played after the common prompt
    seconds_b: float = 0.0  # likewise


@dataclass(frozen=True, slots=True)
class Preference:
    """A valid vote, with the clips that were compared."""

    rater: str
    pair: int
    first: StudyClip
    second: StudyClip
    preferred: int | None  # 0 for the first clip, 1 for the second, None for a tie
    choice: str  # `a`, `b` or `tie`, as displayed
    seconds_a: float
    seconds_b: float


class InvalidName(MgenError):
    """An invalid name of a rater."""


class ReusedId(MgenError):
    """A vote's id that belongs to another vote."""


class VoteStore:
    """An open votes file. Build with `VoteStore.open` or `VoteStore.read`; thread-safe."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.RLock()
        self._files: list[tuple[int, int] | None] = []  # see `_identities`; empty before the store may write

    @classmethod
    def open(cls, path: Path | str, study: Study) -> VoteStore:
        """Opens the votes file of a study, or creates it; a file of an older version is migrated.

        Raises:
            MgenError: The file is no votes file, cannot be written, or holds the votes of another study.
        """
        path = Path(path)
        store = cls(path, _connect(path, "rwc"))
        try:
            with _explain_errors(path):
                for pragma in ("journal_mode=WAL", "synchronous=FULL", "fullfsync=ON", "foreign_keys=ON"):
                    store._connection.execute(f"PRAGMA {pragma}")
                with store._transaction():
                    if not store._version():
                        store._create(study)
                store._migrate()
            store._check(study)
            store._files = store._identities()
            store._check_files()
        except MgenError:
            store.close()
            raise
        return store

    @classmethod
    def read(cls, path: Path | str) -> VoteStore:
        """Opens a votes file read-only, also while raters vote; a file of an older version is migrated first.

        Raises:
            MgenError: There is no such file, or it is no votes file.
        """
        path = Path(path)
        if not path.is_file():
            raise MgenError(f"{path}: no such file; give the votes file that mgen listen printed")
        store = cls(path, _connect(path, "ro"))
        try:
            with _explain_errors(path):
                version = store._version()
                if not version:
                    raise MgenError(f"{path}: an empty database; give the votes file that mgen listen printed")
                if version < VERSION:
                    store.close()
                    store = cls(path, _connect(path, "rw"))
                    store._migrate()
                    store.close()
                    store = cls(path, _connect(path, "ro"))
        except MgenError:
            store.close()
            raise
        return store

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def rater(self, name: str) -> int:
        """Returns the number of a rater, new or known; names are compared without case.

        Raises:
            InvalidName: The name is empty, too long, or holds control characters.
        """
        name = " ".join(unicodedata.normalize("NFC", name).split())
        if not 1 <= len(name) <= MAX_NAME or any(unicodedata.category(letter)[0] == "C" for letter in name):
            raise InvalidName(f"name: expected 1 to {MAX_NAME} letters, got {len(name)}; choose another")
        with self._transaction() as run:
            run(
                "INSERT INTO rater (key, name, at) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING",
                (name.casefold(), name, time.time()),
            )
            (rater,) = run("SELECT id FROM rater WHERE key = ?", (name.casefold(),)).fetchone()
            if not run("SELECT 1 FROM trial WHERE rater = ?", (rater,)).fetchone():
                trials = draw_trials(self._systems_of_pairs(), self.seed, rater - 1)
                for trial in trials:
                    row = rater, trial.place, trial.pair, int(trial.swapped)
                    run("INSERT INTO trial (rater, place, pair, swapped) VALUES (?, ?, ?, ?)", row)
        return int(rater)

    def trials(self, rater: int) -> list[Trial]:
        """All trials of a rater, in order."""
        rows = self._rows("SELECT place, pair, swapped FROM trial WHERE rater = ? ORDER BY place", (rater,))
        return [Trial(place, pair, bool(swapped)) for place, pair, swapped in rows]

    def open_places(self, rater: int) -> list[int]:
        """Places without a vote of the rater, or whose vote was withdrawn."""
        rows = self._rows(
            "SELECT place FROM trial WHERE rater = ? AND place NOT IN "
            f"(SELECT place FROM vote WHERE rater = ? AND choice <> 'undo' AND seq IN ({_LAST})) ORDER BY place",
            (rater, rater),
        )
        return [place for (place,) in rows]

    def last_place(self, rater: int) -> int | None:
        """Place of the rater's latest valid vote, for undo; None without one."""
        row = self._rows(
            f"SELECT place FROM vote WHERE rater = ? AND choice <> 'undo' AND seq IN ({_LAST}) ORDER BY seq DESC",
            (rater,),
        )
        return row[0][0] if row else None

    def vote(self, vote: Vote) -> bool:
        """Appends a vote; it is on disk when this returns.

        Returns:
            Whether it is new: a repeated vote is neither an error nor a second vote.

        Raises:
            ReusedId: The id was used for another vote.
            MgenError: The trial does not exist, a field is out of range, or the file cannot be written, or is no longer
                there.
        """
        row = (vote.id, vote.rater, vote.place, vote.choice, vote.seconds_a, vote.seconds_b)
        if not (math.isfinite(vote.seconds_a) and math.isfinite(vote.seconds_b)):
            raise MgenError("vote: seconds played must be finite numbers")
        columns = "id, rater, place, choice, seconds_a, seconds_b, at"
        insert = f"INSERT INTO vote ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
        with self._transaction() as run:
            try:
                done = run(insert, (*row, time.time())).rowcount
            except sqlite3.IntegrityError as error:
                raise MgenError(f"vote: {error}; reload the page") from error
            known = run("SELECT id, rater, place, choice FROM vote WHERE id = ?", (vote.id,)).fetchone()
            if known != row[:4]:
                raise ReusedId(f"vote: the id {vote.id} was used for another vote; reload the page")
        return bool(done)

    def preferences(self) -> list[Preference]:
        """The valid votes: the last of each trial, unless it withdraws the one before."""
        clips = dict(enumerate(self.clips))
        rows = self._rows(
            "SELECT rater.name, pair.id, first, second, swapped, choice, seconds_a, seconds_b FROM vote "
            "JOIN trial USING (rater, place) JOIN pair ON pair.id = trial.pair JOIN rater ON rater.id = vote.rater "
            f"WHERE choice <> 'undo' AND seq IN ({_LAST}) ORDER BY seq"
        )
        out = []
        for name, pair, first, second, swapped, choice, seconds_a, seconds_b in rows:
            preferred = None if choice == "tie" else int((choice == "b") != bool(swapped))
            out.append(Preference(name, pair, clips[first], clips[second], preferred, choice, seconds_a, seconds_b))
        return out

    def counts(self) -> dict[str, int]:
        """Numbers of `raters`, `pairs`, valid `votes`, and all `appended` votes."""
        valid = f"vote WHERE choice <> 'undo' AND seq IN ({_LAST})"
        tables = {"raters": "rater", "pairs": "pair", "votes": valid, "appended": "vote"}
        return {name: self._rows(f"SELECT count(*) FROM {table}")[0][0] for name, table in tables.items()}

    @property
    def seed(self) -> int:
        return int(self._setting("seed"))

    @property
    def systems(self) -> list[str]:
        return list(json.loads(self._setting("systems")))

    @property
    def key(self) -> str:
        """Random identifier of this file."""
        return self._setting("key")

    @property
    def question(self) -> str:
        return str(json.loads(self._setting("question")))

    @property
    def vocabulary(self) -> list[str] | None:
        names: list[str] | None = json.loads(self._setting("vocabulary"))
        return names

    @property
    def clips(self) -> list[StudyClip]:
        rows = self._rows("SELECT system, prompt, work, digest, prompt_ids, completion_ids FROM clip ORDER BY id")
        return [StudyClip(*row[:4], *(text and tuple(json.loads(text)) for text in row[4:])) for row in rows]

    def _systems_of_pairs(self) -> list[tuple[str, str]]:
        return self._rows(
            "SELECT one.system, other.system FROM pair JOIN clip AS one ON one.id = first "
            "JOIN clip AS other ON other.id = second ORDER BY pair.id"
        )

    def _setting(self, name: str) -> str:
        return str(self._rows("SELECT value FROM study WHERE name = ?", (name,))[0][0])

    def _version(self) -> int:
        """Version of the file's schema; 0 for an empty file."""
        queries = ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
        application, version, tables = (self._connection.execute(query).fetchone()[0] for query in queries)
        if (tables or application) and application != APPLICATION_ID:
            raise MgenError(f"{self.path}: a database of another program; choose another file")
        if tables and not 1 <= version <= VERSION:
            raise MgenError(f"{self.path}: is of version {version}, this mgen reads {VERSION}; choose another file")
        return int(version) if tables else 0

    def _migrate(self) -> None:
        """Renames what version 1 called otherwise, in one transaction; every vote stays."""
        with self._transaction() as run:
            if self._version() == VERSION:
                return
            for (trigger,) in run("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                run(f"DROP TRIGGER {trigger}")
            for statement in _VERSION_1_TO_2:
                run(statement)
            pairs = tuple(self._rows("SELECT first, second FROM pair ORDER BY id"))
            seconds = json.loads(self._setting("seconds"))
            study = Study(self.question, seconds, self.seed, tuple(self.systems), tuple(self.clips), pairs)
            run("UPDATE study SET value = ? WHERE name = 'fingerprint'", (study.fingerprint,))
            self._protect()

    def _protect(self) -> None:
        """Makes the tables append-only, and records the version."""
        for table in _TABLES:
            for verb in ("UPDATE", "DELETE"):
                self._connection.execute(
                    f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                    "BEGIN SELECT RAISE(ABORT, 'votes are only appended'); END"
                )
        self._connection.execute(f"PRAGMA user_version={VERSION}")

    def _create(self, study: Study) -> None:
        run = self._connection.execute
        for statement in _SCHEMA.split(";\n"):
            run(statement)
        names = ("question", "seconds", "seed", "systems", "vocabulary")
        settings = {name: json.dumps(getattr(study, name)) for name in names}
        settings |= {"fingerprint": study.fingerprint, "key": os.urandom(8).hex()}
        for row in settings.items():
            run("INSERT INTO study (name, value) VALUES (?, ?)", row)
        for i, clip in enumerate(study.clips):
            ids = (None if ids is None else json.dumps(ids) for ids in (clip.prompt_ids, clip.completion_ids))
            values = i, clip.system, clip.prompt, clip.work, clip.digest, *ids
            run("INSERT INTO clip VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        for i, (first, second) in enumerate(study.pairs):
            run("INSERT INTO pair VALUES (?, ?, ?)", (i, first, second))
        run(f"PRAGMA application_id={APPLICATION_ID}")
        self._protect()

    def _check(self, study: Study) -> None:
        if self._setting("fingerprint") != study.fingerprint:
            pairs, now = self.counts()["pairs"], len(study.pairs)
            raise MgenError(
                f"{self.path}: holds votes of another study ({pairs} pairs of {', '.join(self.systems)}; now {now} of "
                f"{', '.join(study.systems)}); choose another --out, or its own runs and options"
            )

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock, _explain_errors(self.path):
            self._check_files()
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        """Yields `execute`; commits at the end, and rolls back after an error."""
        with self._lock, _explain_errors(self.path):
            self._check_files()
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection.execute
            self._check_files()

    def _check_files(self) -> None:
        """Raises `MgenError` unless what SQLite has open is what a later reader will open: it writes to removed files
        without an error.
        """
        if self._files and (self._files[0] is None or self._files != self._identities()):
            problem = "was removed or replaced after it was opened, or is read-only"
            raise MgenError(f"{self.path}: {problem}; no vote is saved until mgen listen is started with a good one")

    def _identities(self) -> list[tuple[int, int] | None]:
        """Device and inode of the database and of its log; None for a file that is missing or that nobody may write."""
        return [_identity(path) for path in (str(self.path), f"{os.path.realpath(self.path)}-wal")]


def draw_trials(systems: Sequence[tuple[str, str]], seed: int, number: int) -> list[Trial]:
    """Draws the order of the pairs for rater `number` (0..), and which clip is A.

    Two consecutive raters (0 and 1, 2 and 3, ...) get each pair once in either order; for one rater, a system is A in
    half of its pairs with another, plus or minus one.

    Args:
        systems: the two systems of each pair.
    """
    chance = random.Random(f"{seed} sides {number // 2}")
    swapped = [False] * len(systems)
    for both in sorted(set(systems)):
        places = [i for i, names in enumerate(systems) if names == both]
        chance.shuffle(places)
        first = chance.random() < 0.5
        for i, place in enumerate(places):
            swapped[place] = bool(i % 2) != first
    order = list(range(len(systems)))
    random.Random(f"{seed} order {number}").shuffle(order)
    return [Trial(place, pair, swapped[pair] != bool(number % 2)) for place, pair in enumerate(order)]


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found.st_mode & 0o222 else None


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    with _explain_errors(path):
        address = f"{path.absolute().as_uri()}?mode={mode}"
        # Without an isolation level, transactions begin where they are written.
        return sqlite3.connect(address, uri=True, timeout=20, isolation_level=None, check_same_thread=False)


@contextmanager
def _explain_errors(path: Path) -> Iterator[None]:
    """Turns errors of SQLite into one line."""
    try:
        yield
    except sqlite3.OperationalError as error:
        problem = f"{path}: cannot be opened or written ({error}); check the disk or choose another file"
        raise MgenError(problem) from error
    except sqlite3.IntegrityError:
        raise
    except sqlite3.DatabaseError as error:
        raise MgenError(f"{path}: not a votes file ({error}); choose another file") from error
