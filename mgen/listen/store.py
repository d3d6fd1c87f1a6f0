"""Votes in one SQLite file: appended, never changed, and acknowledged only once they are on the disk.

Imports nothing but the standard library, so that a process that writes votes starts at once. Who may vote is the
server's affair; what votes mean is that of `ranking.py`.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mgen.errors import MgenError

VERSION = 1
APPLICATION_ID = 0x6D67656E  # "mgen"
CHOICES = ("a", "b", "tie", "undo")
MAX_NAME = 60  # characters of a rater's name
MAX_ID = 64  # characters of a vote's id

_SCHEMA = f"""
CREATE TABLE study (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE take (
  id INTEGER PRIMARY KEY,
  player TEXT NOT NULL,
  prompt TEXT NOT NULL,
  work TEXT NOT NULL,
  digest TEXT NOT NULL,
  prompt_ids TEXT,
  completion_ids TEXT,
  UNIQUE (player, prompt)
);
CREATE TABLE pair (
  id INTEGER PRIMARY KEY,
  first INTEGER NOT NULL REFERENCES take,
  second INTEGER NOT NULL REFERENCES take,
  UNIQUE (first, second),
  CHECK (first <> second)
);
CREATE TABLE rater (
  id INTEGER PRIMARY KEY,
  key TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND {MAX_NAME}),
  at REAL NOT NULL
);
CREATE TABLE turn (
  rater INTEGER NOT NULL REFERENCES rater,
  place INTEGER NOT NULL CHECK (place >= 0),
  pair INTEGER NOT NULL REFERENCES pair,
  swapped INTEGER NOT NULL CHECK (swapped IN (0, 1)),
  PRIMARY KEY (rater, place),
  UNIQUE (rater, pair)
) WITHOUT ROWID;
CREATE TABLE vote (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE CHECK (length(id) BETWEEN 8 AND {MAX_ID}),
  rater INTEGER NOT NULL,
  place INTEGER NOT NULL,
  choice TEXT NOT NULL CHECK (choice IN ('a', 'b', 'tie', 'undo')),
  heard_a REAL NOT NULL CHECK (heard_a BETWEEN 0 AND 86400),
  heard_b REAL NOT NULL CHECK (heard_b BETWEEN 0 AND 86400),
  at REAL NOT NULL,
  FOREIGN KEY (rater, place) REFERENCES turn (rater, place)
);
CREATE INDEX vote_of_turn ON vote (rater, place, seq);
"""
_TABLES = ("study", "take", "pair", "rater", "turn", "vote")
_LAST = "SELECT max(seq) FROM vote GROUP BY rater, place"  # the last word on each turn counts


@dataclass(frozen=True, slots=True)
class Take:
    """What one player made of one prompt.

    Attributes:
        player: who played; `real` is real music.
        prompt: its name, the same for every player.
        work: that the prompt was taken from; empty without one.
        digest: hash of the music.
        prompt_ids, completion_ids: tokens; None for music that has none.
    """

    player: str
    prompt: str
    work: str
    digest: str
    prompt_ids: tuple[int, ...] | None = None
    completion_ids: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Study:
    """What is asked of every rater.

    Attributes:
        question: above each pair.
        seconds: most that is played of a take.
        seed: of pairs and orders.
        players: in the order of the tables.
        takes: all that are played.
        pairs: indices of two takes of one prompt.
        vocabulary: names of the tokens by id, where they are known.
    """

    question: str
    seconds: float
    seed: int
    players: tuple[str, ...]
    takes: tuple[Take, ...]
    pairs: tuple[tuple[int, int], ...]
    vocabulary: tuple[str, ...] | None = None

    @property
    def fingerprint(self) -> str:
        """A hash of all that a rater hears and is asked; votes of two studies are never mixed."""
        content = asdict(self)
        del content["vocabulary"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Turn:
    """A pair as one rater meets it: at `place` 0.. of their list, the second take as A where `swapped`."""

    place: int
    pair: int
    swapped: bool


@dataclass(frozen=True, slots=True)
class Vote:
    """One word of a rater on one of their turns.

    Attributes:
        id: made by the client, the same at every try: what makes a second try harmless.
        choice: one of `CHOICES`; `undo` takes back what was said before.
        heard_a, heard_b: seconds played of each, without the prompt that both share.
    """

    id: str
    rater: int
    place: int
    choice: str
    heard_a: float = 0.0
    heard_b: float = 0.0


@dataclass(frozen=True, slots=True)
class Ballot:
    """A vote that counts, in the players' names.

    Attributes:
        preferred: 0 the first take, 1 the second, None a tie.
        chose: `a`, `b` or `tie`, as it was shown.
    """

    rater: str
    pair: int
    first: Take
    second: Take
    preferred: int | None
    chose: str
    heard_a: float
    heard_b: float


class NameRefused(MgenError):
    """A rater's name that is none."""


class Store:
    """An open votes file. Build with `Store.open` or `Store.read`; safe to use from several threads."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: Path | str, study: Study) -> Store:
        """Take up the votes of a study, or begin the file.

        Raises:
            MgenError: The file is no votes file, cannot be written, or holds the votes of another study.
        """
        path = Path(path)
        store = cls(path, _connect(path, "rwc"))
        try:
            with _explained(path):
                for pragma in ("journal_mode=WAL", "synchronous=FULL", "fullfsync=ON", "foreign_keys=ON"):
                    store._connection.execute(f"PRAGMA {pragma}")
                with store._transaction():
                    if not store._exists():
                        store._begin(study)
            store._check(study)
        except MgenError:
            store.close()
            raise
        return store

    @classmethod
    def read(cls, path: Path | str) -> Store:
        """Open a votes file to look at, also while raters vote.

        Raises:
            MgenError: There is no such file, or it is no votes file.
        """
        path = Path(path)
        if not path.is_file():
            raise MgenError(f"{path}: no such file; give the votes file that mgen listen printed")
        store = cls(path, _connect(path, "ro"))
        try:
            with _explained(path):
                if not store._exists():
                    raise MgenError(f"{path}: an empty database; give the votes file that mgen listen printed")
        except MgenError:
            store.close()
            raise
        return store

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def settings(self) -> dict[str, Any]:
        """How the database writes: `journal_mode` and `synchronous` (2 is FULL)."""
        return {name: self._rows(f"PRAGMA {name}")[0][0] for name in ("journal_mode", "synchronous")}

    # ---------------------------------------------------------------- raters

    def rater(self, name: str) -> int:
        """The number of a rater, new or known; capitals do not tell two apart.

        Raises:
            NameRefused: The name is empty, too long, or holds control characters.
        """
        name = " ".join(unicodedata.normalize("NFC", name).split())
        if not 1 <= len(name) <= MAX_NAME or any(unicodedata.category(letter)[0] == "C" for letter in name):
            raise NameRefused(f"name: expected 1 to {MAX_NAME} letters, got {len(name)}; choose another")
        with self._transaction() as run:
            run("INSERT INTO rater (key, name, at) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING",
                (name.casefold(), name, time.time()))  # fmt: skip
            (rater,) = run("SELECT id FROM rater WHERE key = ?", (name.casefold(),)).fetchone()
            if not run("SELECT 1 FROM turn WHERE rater = ?", (rater,)).fetchone():
                turns = draw_turns(self._players_of_pairs(), self.seed, rater - 1)
                run.many(
                    "INSERT INTO turn (rater, place, pair, swapped) VALUES (?, ?, ?, ?)",
                    [(rater, turn.place, turn.pair, int(turn.swapped)) for turn in turns],
                )
        return int(rater)

    def turns(self, rater: int) -> list[Turn]:
        """All turns of a rater, in their order."""
        rows = self._rows("SELECT place, pair, swapped FROM turn WHERE rater = ? ORDER BY place", (rater,))
        return [Turn(place, pair, bool(swapped)) for place, pair, swapped in rows]

    def open_places(self, rater: int) -> list[int]:
        """Places that the rater has not voted on yet, or took the vote back."""
        rows = self._rows(
            "SELECT place FROM turn WHERE rater = ? AND place NOT IN "
            f"(SELECT place FROM vote WHERE rater = ? AND choice <> 'undo' AND seq IN ({_LAST})) ORDER BY place",
            (rater, rater),
        )
        return [place for (place,) in rows]

    def last_place(self, rater: int) -> int | None:
        """Where the rater's latest vote that counts is, to be taken back; None without one."""
        row = self._rows(
            f"SELECT place FROM vote WHERE rater = ? AND choice <> 'undo' AND seq IN ({_LAST}) ORDER BY seq DESC",
            (rater,),
        )
        return row[0][0] if row else None

    # ----------------------------------------------------------------- votes

    def vote(self, vote: Vote) -> bool:
        """Append a vote; when this returns, it is on the disk.

        Returns:
            Whether it is new: the same vote given again is neither an error nor a second vote.

        Raises:
            MgenError: The turn does not exist, a field is out of its range, the id was used for another vote, or the
                file cannot be written.
        """
        row = (vote.id, vote.rater, vote.place, vote.choice, vote.heard_a, vote.heard_b)
        if not (math.isfinite(vote.heard_a) and math.isfinite(vote.heard_b)):
            raise MgenError("vote: seconds heard must be finite numbers")
        with self._transaction() as run:
            try:
                done = run(
                    "INSERT INTO vote (id, rater, place, choice, heard_a, heard_b, at) VALUES (?, ?, ?, ?, ?, ?, ?) "
                    "ON CONFLICT (id) DO NOTHING",
                    (*row, time.time()),
                ).rowcount
            except sqlite3.IntegrityError as error:
                raise MgenError(f"vote: {error}; reload the page") from error
            if not done:
                known = run("SELECT id, rater, place, choice, heard_a, heard_b FROM vote WHERE id = ?", (vote.id,))
                if known.fetchone()[:4] != row[:4]:
                    raise MgenError(f"vote: the id {vote.id} was used for another vote; reload the page")
        return bool(done)

    def ballots(self) -> list[Ballot]:
        """The votes that count: the last on each turn, unless it takes back the one before."""
        takes = dict(enumerate(self.takes))
        rows = self._rows(
            "SELECT rater.name, pair.id, first, second, swapped, choice, heard_a, heard_b FROM vote "
            "JOIN turn USING (rater, place) JOIN pair ON pair.id = turn.pair JOIN rater ON rater.id = vote.rater "
            f"WHERE choice <> 'undo' AND seq IN ({_LAST}) ORDER BY seq"
        )
        out = []
        for name, pair, first, second, swapped, choice, heard_a, heard_b in rows:
            preferred = None if choice == "tie" else int((choice == "b") != bool(swapped))
            out.append(Ballot(name, pair, takes[first], takes[second], preferred, choice, heard_a, heard_b))
        return out

    def counts(self) -> dict[str, int]:
        """How many `raters`, `pairs`, and `votes` that count, and `appended` in all."""
        (appended,) = self._rows("SELECT count(*) FROM vote")[0]
        (raters,) = self._rows("SELECT count(*) FROM rater")[0]
        (pairs,) = self._rows("SELECT count(*) FROM pair")[0]
        (votes,) = self._rows(f"SELECT count(*) FROM vote WHERE choice <> 'undo' AND seq IN ({_LAST})")[0]
        return {"raters": raters, "pairs": pairs, "votes": votes, "appended": appended}

    # ----------------------------------------------------------------- study

    @property
    def seed(self) -> int:
        return int(self._setting("seed"))

    @property
    def players(self) -> list[str]:
        return list(json.loads(self._setting("players")))

    @property
    def key(self) -> str:
        """Tells this file from any other, and nothing else."""
        return self._setting("key")

    @property
    def question(self) -> str:
        return str(json.loads(self._setting("question")))

    @property
    def vocabulary(self) -> list[str] | None:
        names: list[str] | None = json.loads(self._setting("vocabulary"))
        return names

    @property
    def takes(self) -> list[Take]:
        def ids(text: str | None) -> tuple[int, ...] | None:
            return None if text is None else tuple(json.loads(text))

        rows = self._rows("SELECT player, prompt, work, digest, prompt_ids, completion_ids FROM take ORDER BY id")
        return [Take(row[0], row[1], row[2], row[3], ids(row[4]), ids(row[5])) for row in rows]

    def _players_of_pairs(self) -> list[tuple[str, str]]:
        return self._rows(
            "SELECT one.player, other.player FROM pair JOIN take AS one ON one.id = first "
            "JOIN take AS other ON other.id = second ORDER BY pair.id"
        )

    def _setting(self, name: str) -> str:
        return str(self._rows("SELECT value FROM study WHERE name = ?", (name,))[0][0])

    def _exists(self) -> bool:
        ((application,), (version,)) = (
            self._connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
        )
        (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if (tables or application) and application != APPLICATION_ID:
            raise MgenError(f"{self.path}: a database of another program; choose another file")
        if tables and version != VERSION:
            raise MgenError(f"{self.path}: is of version {version}, this mgen reads {VERSION}; choose another file")
        return bool(tables)

    def _begin(self, study: Study) -> None:
        run = self._connection.execute
        for statement in _SCHEMA.split(";\n"):
            run(statement)
        settings = {
            "question": study.question,
            "seconds": study.seconds,
            "seed": study.seed,
            "players": study.players,
            "vocabulary": study.vocabulary,
        }
        rows = [(name, json.dumps(value)) for name, value in settings.items()]
        for row in [*rows, ("fingerprint", study.fingerprint), ("key", os.urandom(8).hex())]:
            run("INSERT INTO study (name, value) VALUES (?, ?)", row)
        for i, take in enumerate(study.takes):
            ids = (None if ids is None else json.dumps(ids) for ids in (take.prompt_ids, take.completion_ids))
            run(
                "INSERT INTO take (id, player, prompt, work, digest, prompt_ids, completion_ids) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (i, take.player, take.prompt, take.work, take.digest, *ids),
            )
        for i, (first, second) in enumerate(study.pairs):
            run("INSERT INTO pair (id, first, second) VALUES (?, ?, ?)", (i, first, second))
        for table in _TABLES:
            for verb in ("UPDATE", "DELETE"):
                run(
                    f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                    "BEGIN SELECT RAISE(ABORT, 'votes are only appended'); END"
                )
        run(f"PRAGMA application_id={APPLICATION_ID}")
        run(f"PRAGMA user_version={VERSION}")

    def _check(self, study: Study) -> None:
        if self._setting("fingerprint") != study.fingerprint:
            pairs, now = self.counts()["pairs"], len(study.pairs)
            raise MgenError(
                f"{self.path}: holds votes of another study ({pairs} pairs of {', '.join(self.players)}; now {now} of "
                f"{', '.join(study.players)}); choose another --out, or the runs and options it was begun with"
            )

    # -------------------------------------------------------------- database

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock, _explained(self.path):
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[_Run]:
        with self._lock, _explained(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield _Run(self._connection)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise


class _Run:
    """`run(sql, values)` inside a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.many = connection.executemany
        self._execute = connection.execute

    def __call__(self, query: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        return self._execute(query, values)


def draw_turns(players: Sequence[tuple[str, str]], seed: int, number: int) -> list[Turn]:
    """In which order rater `number` (0..) meets the pairs, and which take is A.

    Every two raters (0 and 1, 2 and 3, ...) hear each pair once in either order; within a rater, a player is A in half
    of its pairs with another, to one.

    Args:
        players: the two players of each pair.
    """
    chance = random.Random(f"{seed} sides {number // 2}")
    swapped = [False] * len(players)
    for both in sorted(set(players)):
        places = [i for i, names in enumerate(players) if names == both]
        chance.shuffle(places)
        first = chance.random() < 0.5
        for i, place in enumerate(places):
            swapped[place] = bool(i % 2) != first
    order = list(range(len(players)))
    random.Random(f"{seed} order {number}").shuffle(order)
    return [Turn(place, pair, swapped[pair] != bool(number % 2)) for place, pair in enumerate(order)]


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    with _explained(path):
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=20,
            isolation_level=None,  # transactions are written out
            check_same_thread=False,
        )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """SQLite's errors as one line of ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise MgenError(
            f"{path}: cannot be opened or written ({error}); see to the disk or choose another file"
        ) from error
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.IntegrityError):
            raise
        raise MgenError(f"{path}: not a votes file ({error}); choose another file") from error
