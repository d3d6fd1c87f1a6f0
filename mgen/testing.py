"""The contract of judges as one call, for the tests of anybody's judge: `check_judge(SmallLeaps)`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from mgen.corpus.demo import COLLECTIONS, compose
from mgen.encoding.remi import Kind, Remi
from mgen.errors import MgenError
from mgen.judgement import Judge, Judgement, PrefixJudge, broken_rule, check_is_judge, check_judgement
from mgen.notes import Notes

STYLES = ("target", "other")  # of the vocabulary; judges read no tokens
SHIFTS = (-5, 1, 6)  # semitones by which pieces are transposed


def check_judge(
    factory: Callable[[], Judge],
    *,
    name: str = "",
    transposition_invariant: bool = False,
    notes: Notes | None = None,
    tolerance: float = 0.0,
    seed: int = 0,
) -> None:
    """Checks what every judge promises, whatever music it is given.

    A judgement is finite, of the stated shapes and types, and the same every time. Credit sums to the score. A piece
    that is not `defined`, such as an empty one, gets the judge's worst value. Each piece is judged alone. The notes
    stay as they are. If declared, transposition changes nothing. Where it judges beginnings, a whole piece as a
    beginning has its score.

    Args:
        factory: builds the judge; use `functools.partial` for arguments.
        name: of the judge, for messages; the factory's own by default.
        transposition_invariant: the judge declares that the key of a piece does not matter.
        notes: the pieces; by default `contract_pieces(seed)`.
        tolerance: largest difference between scores that count as equal. 0 for arithmetic; 1e-4 for a network, whose
            sums depend on the batch.
        seed: of the pieces, their order, and nothing else.

    Raises:
        MgenError: A rule is broken: one line with the rule, the piece and what to do.
    """
    name = name or getattr(factory, "__name__", type(factory).__name__)
    contract = _Contract(name, check_is_judge(name, factory()), tolerance)
    contract.check_silence()
    notes = contract_pieces(seed) if notes is None else notes
    together = contract.judge_checked(notes, "a batch")
    contract.check_repeatable(notes, together)
    contract.check_alone(notes, together, np.random.default_rng(seed).permutation(notes.n_pieces).tolist())
    if isinstance(contract.judge, PrefixJudge):
        contract.check_beginnings(notes, together, contract.judge)
    if transposition_invariant:
        contract.check_transposition(notes, together)


@dataclass(frozen=True)
class _Contract:
    """The rules, one method each; every method raises MgenError where the judge breaks one."""

    name: str
    judge: Judge
    tolerance: float

    def fail(self, rule: str, found: str, remedy: str) -> MgenError:
        return broken_rule(self.name, rule, found, remedy)

    def judge_checked(self, pieces: Notes, what: str) -> Judgement:
        """Judges some pieces, which stay as they are, and checks the judgement by itself."""
        before = {field.name: np.copy(getattr(pieces, field.name)) for field in fields(pieces) if field.name != "bars"}
        try:
            judgement = self.judge(pieces)
        except Exception as error:
            remedy = "return a Judgement for every batch"
            raise self.fail(f"{what} can be judged", f"it raised {error!r}", remedy) from error
        changed = [field for field, array in before.items() if not np.array_equal(array, getattr(pieces, field))]
        if changed:
            raise self.fail("the notes stay as they are", f"{what} has another {changed[0]} now", "work on a copy")
        return check_judgement(self.name, judgement, pieces, self.judge.worst)

    def compare(
        self, rule: str, found: Judgement, expected: Judgement, remedy: str, pieces: Sequence[int] | None = None
    ) -> None:
        """Compares scores; `pieces` are their numbers for the message, if not 0, 1, ..."""
        wrong = (np.abs(found.score - expected.score) > self.tolerance) | (found.defined != expected.defined)
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            piece = at if pieces is None else pieces[at]
            raise self.fail(rule, f"piece {piece} has {found.score[at]:g}, not {expected.score[at]:g}", remedy)

    def check_silence(self) -> None:
        remi = Remi.build(STYLES)
        silence = Notes.from_ids([[], [remi.bar_id]], remi)
        judgement = self.judge_checked(silence, "an empty piece")
        if judgement.defined.any():
            found = f"piece {int(judgement.defined.argmax())} (0 notes) is defined"
            raise self.fail("an empty piece is not defined", found, "return defined False and the worst value")
        self.judge_checked(silence.pieces([]), "a batch without pieces")

    def check_repeatable(self, notes: Notes, together: Judgement) -> None:
        again = self.judge_checked(notes, "a batch")
        remedy = "draw nothing at random, and keep nothing from one call to the next"
        self.compare("the same music gets the same score", again, together, remedy)

    def check_alone(self, notes: Notes, together: Judgement, order: Sequence[int]) -> None:
        rule, remedy = "each piece is judged alone", "let no piece depend on the others of its batch"
        for what, pieces in [("pieces in another order", order), *(("one piece", [piece]) for piece in order[:4])]:
            found = self.judge_checked(notes.pieces(pieces), what)
            expected = Judgement(together.score[pieces], None, together.defined[pieces])
            self.compare(rule, found, expected, remedy, pieces)
            if (found.credit is None) != (together.credit is None):
                raise self.fail("credit is always given or never", f"{what} has none", "decide it in the factory")
            if found.credit is not None and together.credit is not None:
                credit = np.concatenate([together.credit[notes.piece == piece] for piece in pieces])
                if (np.abs(found.credit - credit) > self.tolerance).any():
                    raise self.fail(rule, f"{what} changes the credit", remedy)

    def check_beginnings(self, notes: Notes, together: Judgement, judge: PrefixJudge) -> None:
        scores, rule = np.asarray(judge.prefix_scores(notes)), "a beginning has a finite score"
        if scores.shape != (notes.n_pieces,) or not np.isfinite(scores).all():
            raise self.fail(
                rule, f"prefix_scores has shape {scores.shape}, or values that are none", "return (B,) numbers"
            )
        whole = Judgement(np.where(together.defined, scores, together.score).astype(np.float32), None, together.defined)
        self.compare("a whole piece as a beginning has its score", whole, together, "use one scale for both")

    def check_transposition(self, notes: Notes, together: Judgement) -> None:
        lowest, highest = int(notes.pitch.min(initial=127)), int(notes.pitch.max(initial=0))
        for shift in (shift for shift in SHIFTS if lowest + shift >= 0 and highest + shift <= 127):
            pitch = notes.pitch + np.where(notes.program < 0, 0, shift).astype(np.int32)  # drums have no key
            moved = self.judge_checked(replace(notes, pitch=pitch), "a transposed batch")
            remedy = f"compare intervals, not pitches ({shift:+d} semitones), or do not declare it"
            self.compare("transposition changes nothing", moved, together, remedy)


def contract_pieces(seed: int = 0) -> Notes:
    """Pieces of every sort: composed music, completions of random tokens with broken grammar, an empty piece."""
    remi, rng = Remi.build(STYLES), np.random.default_rng(seed)
    ids = [random_token_ids(remi, rng, size) for size in (300, 90, 0, 30, 8, 1)]
    completions = Notes.from_ids(ids, remi, [min(int(rng.integers(12)), len(row)) for row in ids])
    return Notes.concat([Notes.from_scores([compose(name, 0, seed) for name in COLLECTIONS]), completions])


def random_token_ids(remi: Remi, rng: np.random.Generator, tokens: int) -> NDArray[np.int64]:
    """`tokens` ids: notes of few pitches, bars and positions, and sometimes any token at all."""

    def one(kind: Kind, choices: int = 1000) -> int:
        return int(rng.choice(np.flatnonzero(remi.kind == kind)[:choices]))

    ids: list[int] = []
    while len(ids) < tokens:
        match rng.choice(["note", "position", "bar", "any"], p=[0.6, 0.25, 0.1, 0.05]):
            case "note":
                ids += [one(Kind.PITCH, 5), one(Kind.VELOCITY), one(Kind.DURATION)]
            case "position":
                ids += [one(Kind.POSITION)]
            case "bar":
                ids += [remi.bar_id, one(Kind.TIME_SIGNATURE)]
            case _:
                ids += [int(rng.integers(remi.vocab_size))]
    return np.array(ids[:tokens], dtype=np.int64)
