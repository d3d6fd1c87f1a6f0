"""REMI: bars, positions and notes as tokens, 24 positions per beat.

A beat is the note value that the time signature counts: a quarter, or in eighth metres (6/8, 7/8) an eighth. `Notes`
are on a grid of 24 steps per quarter, so an eighth metre uses every second position, and its durations are in eighths.

Velocity tokens are optional. Without them each decoded note gets the velocity of its place in the bar (`ACCENTS`).
Merged tokens (`mgen.encoding.merges`) are optional as well: each stands for several base tokens of one onset. Kinds,
values and time signatures are properties of base tokens, so ids are expanded before they are read.

Vocabulary and token semantics are MidiTok's: `Remi.decode` and `Remi.encode` are vectorised equivalents of MidiTok's
decoder and encoder (tested, also on random token sequences). The vocabulary is also saved as a Hugging Face fast
tokenizer, so that `AutoTokenizer`, `pipeline` and TRL work without mgen.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from miditok import REMI, TokenizerConfig
from numpy.typing import ArrayLike, NDArray
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mgen.arrays import Longs, Mask, ranges, rank_within, run_starts
from mgen.encoding.merges import learn, read_parts, text_tokenizer, to_characters
from mgen.errors import MgenError
from mgen.notes import MAX_BEATS, STEPS_PER_QUARTER, STEPS_PER_WHOLE, Bars, Notes, sort_order
from mgen.stored import explain_damage, finite, integers, read_json

PITCH_RANGE = (21, 108)  # lowest and highest pitch with a token: those of the piano
VELOCITY_BINS = 8
ACCENTS = (100, 80, 64)
"""Velocities of notes without a velocity token: on the downbeat of the bar, on another beat, and between beats; a beat
of 3/8, 6/8, 9/8 and 12/8 is a dotted quarter. Chosen to make the metre audible without covering weak notes.
"""

MIDITOK_FILE = "miditok.json"
MAX_TOKENS = 1 << 16  # ids are stored as uint16
MAX_MERGES = 1 << 15
LEARNING_TOKENS = 1 << 23  # base tokens that merges are learned from, at most
MAX_TRANSPOSITION = 6  # semitones up or down: 5 down and 6 up reach every key once

_BASE_PER_TOKEN = "base_per_token"  # key of MidiTok's file
_SHAPE = r"[A-Za-z]+_(?:None|-?[0-9][0-9./:\-]*)"  # pattern of a token name, to split concatenated names


class Kind(IntEnum):
    """Kind of a token; it defines the meaning of the token's value."""

    SPECIAL = 0
    BAR = 1
    TIME_SIGNATURE = 2  # value: beats in the bar
    POSITION = 3  # value: 24ths of a beat since the bar began
    PROGRAM = 4
    PITCH = 5
    VELOCITY = 6
    DURATION = 7  # value: 24ths of a beat
    END = 8


_KIND_BY_NAME = {kind.name.capitalize(): kind for kind in Kind} | {"TimeSig": Kind.TIME_SIGNATURE, "EOS": Kind.END}


class Remi:
    """REMI ids <-> `Notes`, with MidiTok's and Hugging Face's tokenizers of the same vocabulary.

    Args:
        miditok: the MidiTok tokenizer with the vocabulary; `Remi.build` makes one.

    Attributes:
        base_size: number of base tokens, whose ids are the lowest.
        kind: (base_size,) `Kind` of each base token.
        value: (base_size,) value of each base token, 0 if it has none.
        unit: (base_size,) denominator of each time signature, 4 or 8; 4 for other tokens.
        names: V names; that of a merged token is the names of its base tokens, joined.
        parts: ids of the base tokens that each token stands for.
        base_in: (V,) number of these.
        follows: (kinds, kinds) whether the second `Kind` may follow the first.
        notes_in: (V,) notes that each token completes.
        opens_bar: (V,) whether a token begins with a bar token.
        opens_word: (V,) whether a token begins with a bar or position token; no merge reaches over its start.
        base_per_token: mean number of base tokens of a token, in the music that merges were learned from.
        multi: whether notes carry a program token (recipe `band`).
        velocity: whether notes carry a velocity token.
        style_ids: style name -> id of its token.
        note_size: base tokens of a note, without its position.
        pad_id, bos_id, eos_id, bar_id, common_time: ids of those tokens, the last of 4/4.
    """

    def __init__(self, miditok: REMI) -> None:
        self.miditok = miditok
        vocabulary: dict[str, int] = miditok.vocab
        names = sorted(vocabulary, key=vocabulary.__getitem__)
        self.base_size, self._base_id = len(names), vocabulary
        self.kind = np.array([_KIND_BY_NAME.get(name.split("_")[0], Kind.SPECIAL) for name in names], np.int8)
        self.value = np.array([_value(name) for name in names], dtype=np.int32)
        self.unit = np.array([_unit(name) for name in names], np.int32)
        self.parts = read_parts(miditok)
        self.names = ["".join(names[id_] for id_ in part) for part in self.parts]
        self._base_ids = np.array([id_ for part in self.parts for id_ in part])
        self.base_in = np.array([len(part) for part in self.parts])
        self._part_ends = np.cumsum(self.base_in)
        self._bpe = Tokenizer.from_str(miditok.to_dict()["_model"]) if self.merges else None
        self.base_per_token = max(finite(getattr(miditok, _BASE_PER_TOKEN, 1.0)), 1.0)
        first = self._base_ids[self._part_ends - self.base_in]
        self.opens_bar = self.kind[first] == Kind.BAR
        self.opens_word = self.opens_bar | (self.kind[first] == Kind.POSITION)
        self.notes_in = self.count_in(Kind.DURATION)
        self.multi = bool(miditok.config.use_programs)
        self.velocity = bool(miditok.config.use_velocities)
        self.note_size = 2 + self.velocity + self.multi
        self.pad_id, self.bos_id, self.eos_id = (vocabulary[name] for name in ("PAD_None", "BOS_None", "EOS_None"))
        self.style_ids = {
            name.removesuffix("_None").lower(): id_
            for name, id_ in vocabulary.items()
            if name.endswith("_None") and name not in {"PAD_None", "BOS_None", "EOS_None", "Bar_None"}
        }
        self.follows = _grammar(self.multi, self.velocity)
        self.bar_id = vocabulary["Bar_None"]
        self._time_ids = np.full((max(MAX_BEATS) + 1, max(MAX_BEATS.values()) + 1), -1)  # by unit and beats
        times = np.flatnonzero(self.kind == Kind.TIME_SIGNATURE)
        self._time_ids[self.unit[times], self.value[times]] = times
        self.common_time = int(self._time_ids[4, 4])
        self._position_ids = _lookup(self, Kind.POSITION, int(self.value[self.kind == Kind.POSITION].max()) + 1)
        self._pitch_ids = _lookup(self, Kind.PITCH, 128)
        self._program_ids = _lookup(self, Kind.PROGRAM, 129) if self.multi else None
        self._velocity_ids = _nearest(self, Kind.VELOCITY, 128) if self.velocity else None
        self._duration_ids = _nearest(self, Kind.DURATION, int(self.value[self.kind == Kind.DURATION].max()) + 1)

    @classmethod
    def build(cls, styles: Sequence[str], multi: bool = False, velocity: bool = True) -> Remi:
        """Builds a vocabulary.

        Args:
            styles: names of the styles with a token; letters only.
            multi: write each note's program (recipe `band`).
            velocity: write each note's velocity.

        Raises:
            MgenError: The name of a style has other characters than letters, or is that of another token.
        """
        for style in styles:
            if not re.fullmatch("[a-z]+", style) or style in {"pad", "bos", "eos", "bar"}:
                raise MgenError(f"style '{style}': expected a name of small letters only, and not pad, bos, eos or bar")
        config = TokenizerConfig(
            pitch_range=(PITCH_RANGE[0], PITCH_RANGE[1] + 1),
            beat_res={(0, 2): STEPS_PER_QUARTER, (2, 4): 12, (4, 13): 4},
            num_velocities=VELOCITY_BINS,
            special_tokens=["PAD", "BOS", "EOS", *(style.upper() for style in styles)],
            remove_duplicated_notes=True,
            use_velocities=velocity,
            use_programs=multi,
            use_pitchdrum_tokens=False,
            use_time_signatures=True,
            time_signature_range={unit: list(range(1, most + 1)) for unit, most in MAX_BEATS.items()},
        )
        return cls(REMI(config))

    def learn_merges(self, pieces: Sequence[NDArray[np.integer]], count: int) -> Remi:
        """This vocabulary with at most `count` merges, learned from music in all keys that training transposes it to.

        Of much music the first `LEARNING_TOKENS` tokens are used: every piece in one key, then in the next. Fewer than
        `count` are learned if no pair of tokens is left.

        Args:
            pieces: base tokens of each piece.

        Raises:
            MgenError: `count` is out of range.
        """
        if not 0 < count <= MAX_MERGES:
            raise MgenError(f"merges ({count}) must be between 1 and {MAX_MERGES}")
        remi = Remi(learn(self.miditok, Counter(self._words(pieces)), count))
        if not remi.merges:
            return self
        sample = np.concatenate(pieces)[: 1 << 20]  # enough for the mean
        remi.base_per_token = len(sample) / len(remi.merge(sample))
        return remi

    def _words(self, pieces: Sequence[NDArray[np.integer]]) -> Iterator[str]:
        """The words of the pieces in turn, each piece in another key in every turn."""
        left = LEARNING_TOKENS
        for turn in range(2 * MAX_TRANSPOSITION):
            for number, piece in enumerate(pieces):
                ids = np.asarray(piece, np.int64)
                keys = self.keys(ids)
                if turn >= len(keys):
                    continue
                text = to_characters(self.transpose(ids, keys[(number + turn) % len(keys)]))
                cuts = np.flatnonzero(self.opens_word[ids]).tolist()
                yield from (text[begin:end] for begin, end in pairwise([*cuts, len(text)]))
                left -= len(ids)
                if left <= 0:
                    return

    @cached_property
    def base(self) -> Remi:
        """The vocabulary without merges."""
        return Remi.build(tuple(self.style_ids), self.multi, self.velocity) if self.merges else self

    @property
    def merges(self) -> int:
        """Number of merged tokens."""
        return self.vocab_size - self.base_size

    @property
    def vocab_size(self) -> int:
        return len(self.parts)

    @property
    def fingerprint(self) -> str:
        """A hash of the vocabulary; a model and a corpus are compatible if theirs are equal."""
        content = "\n".join(self.names)
        if self._bpe is not None:  # the order of the merges counts
            content += json.dumps(json.loads(self._bpe.to_str())["model"]["merges"])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    # --------------------------------------------------------------- merges

    def count_in(self, kind: Kind) -> Longs:
        """(V,) number of base tokens of a kind in each token."""
        count = np.append(0, np.cumsum(self.kind[self._base_ids] == kind))
        found: Longs = np.diff(count[self._part_ends], prepend=0)
        return found

    def expand(self, ids: ArrayLike) -> tuple[Longs, Longs]:
        """Base tokens (M,) of tokens (L,), and the index (M,) of the token that each belongs to."""
        tokens = np.asarray(ids, np.int64)
        if not self.merges:
            return tokens, np.arange(len(tokens))
        ends = self._part_ends[tokens]
        places, owner = ranges(np.append(0, self._part_ends)[tokens], ends)
        return self._base_ids[places], owner

    def merge(self, ids: ArrayLike) -> Longs:
        """Tokens of base tokens (M,), with every merge applied; a model is trained on no other tokens of this music.

        Words are merged independently, so the parts of a sequence that is cut at the start of a word can be merged
        apart.
        """
        tokens = np.asarray(ids, np.int64)
        if self._bpe is None or not len(tokens):
            return tokens
        return np.array(self._bpe.encode(to_characters(tokens)).ids, np.int64)

    def beginning(self, ids: Longs, most: int) -> Longs:
        """The first `most` tokens; of a vocabulary with merges up to the last start of a word, if music is cut off.

        So the rest of the music, whatever it is, does not change how the beginning is merged.
        """
        if not self.merges or len(ids) <= most:
            return ids[:most]
        opens = np.flatnonzero(self.opens_word[ids[: most + 1]])
        return ids[: opens[-1] if len(opens) else 0]

    def read(self, text: str) -> Longs:
        """Tokens (L,) of names of base tokens, joined or with space between them, as the tokenizer reads them.

        Raises:
            MgenError: Something in the text is not the name of a token.
        """
        names = [name for piece in re.split(f"({_SHAPE})", text) if (name := piece.strip())]
        unknown = next((name for name in names if name not in self._base_id), None)
        if unknown is not None:
            raise MgenError(f"'{unknown:.40}' is no token of the vocabulary")
        return self.merge([self._base_id[name] for name in names])

    # ---------------------------------------------------------------- files

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The vocabulary as a Hugging Face fast tokenizer; texts are names of base tokens, with or without space."""
        if self._bpe is not None:
            special = np.flatnonzero((self.kind == Kind.SPECIAL) | (self.kind == Kind.END)).tolist()
            inner = text_tokenizer(self._bpe, self.names[: self.base_size], special)
        else:
            inner = Tokenizer(models.WordLevel({name: id_ for id_, name in enumerate(self.names)}, unk_token=None))
            inner.pre_tokenizer = pre_tokenizers.Sequence(
                [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(_SHAPE), "isolated")]
            )
            inner.decoder = decoders.Fuse()
        return PreTrainedTokenizerFast(
            tokenizer_object=inner,
            bos_token="BOS_None",
            eos_token="EOS_None",
            pad_token="PAD_None",
            additional_special_tokens=[f"{style.upper()}_None" for style in self.style_ids],
            padding_side="left",
            clean_up_tokenization_spaces=False,
        )

    def save_pretrained(self, folder: Path | str) -> None:
        """Writes MidiTok's file and the files of the Hugging Face tokenizer to one folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        facts = {_BASE_PER_TOKEN: self.base_per_token} if self.merges else None
        self.miditok.save(folder / MIDITOK_FILE, facts)
        self.tokenizer().save_pretrained(folder)

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> Remi:
        """Reads the files of `save_pretrained`.

        Raises:
            MgenError: The MidiTok file is missing, of another encoding, or of another version of mgen.
        """
        path = Path(folder) / MIDITOK_FILE
        if not path.is_file():
            raise MgenError(
                f"{folder}: expected {MIDITOK_FILE}, found none; give the folder of a model or corpus of mgen"
            )
        remedy = "write it again with mgen prepare"
        content = read_json(path, remedy)
        with explain_damage(path, remedy):
            _check_size(content["config"])
            remi = cls(REMI(params=path))
        present = cls.build(tuple(remi.style_ids), remi.multi, remi.velocity)
        if remi.names[: remi.base_size] != present.names:
            raise MgenError(
                f"{path}: the vocabulary of another version of mgen ({remi.base_size} tokens, expected "
                f"{present.vocab_size} with eighth metres); make the corpus again with mgen prepare and the model with "
                "mgen pretrain"
            )
        return remi

    # ------------------------------------------------------------- decoding

    def decode(self, ids: Sequence[ArrayLike], start: ArrayLike = 0) -> Notes:
        """Decodes token ids to notes like MidiTok's decoder, rounded down to grid steps; see `Notes.from_ids`.

        Any ids can be decoded: a token that the grammar does not allow at its place is counted in `n_broken` and
        otherwise has the same effect as in MidiTok. A merged token counts once, however many of its base tokens are
        broken, and completes as many notes as it contains.
        """
        rows = [np.asarray(row, dtype=np.int64).reshape(-1) for row in ids]
        pieces = len(rows)
        sizes = np.array([len(row) for row in rows], np.int64)
        given = np.minimum(np.broadcast_to(np.asarray(start, dtype=np.int64), (pieces,)), sizes)
        heads = np.cumsum(sizes) - sizes  # index of each piece's first token
        flat, source = self.expand(np.concatenate(rows) if rows else np.zeros(0, np.int64))
        bounds = np.searchsorted(source, np.stack([heads, heads + given, heads + sizes]))
        begin, sizes_of_parts = bounds[1] - bounds[0], bounds[2] - bounds[0]
        tokens = _Tokens.of(self.kind[flat], self.value[flat], sizes_of_parts)
        kind, value, piece, first, last = tokens.kind, tokens.value, tokens.piece, tokens.first, tokens.last
        at = np.arange(len(flat))

        metre = np.append(flat, self.common_time)[_in_force(tokens)]
        length = self.value * STEPS_PER_WHOLE // self.unit  # (V,) grid steps in a bar of each time signature
        halved = (self.unit == 8).astype(np.int32)  # (V,) 1 where a grid step has two positions
        is_bar = kind == Kind.BAR
        is_position = kind == Kind.POSITION
        first_bar = tokens.first_where(is_bar)
        # A position before the first bar token implies bar 0.
        implied = tokens.first_where(is_position) < first_bar
        opening = is_bar & (at == first_bar[piece]) & ~implied[piece]
        closing = np.flatnonzero(is_bar & ~opening)
        passed = np.zeros(len(flat), np.int64)
        passed[closing] = length[metre[closing]]
        bar_tick = tokens.running_sum(passed)
        bar_number = np.maximum(tokens.running_sum(is_bar) - 1 + implied[piece], 0)
        event = tokens.latest(is_bar | is_position)
        position = np.flatnonzero(is_position)
        step, outside = np.zeros(len(flat), np.int64), np.zeros(len(flat), bool)
        place, signature = value[position], metre[position]
        step[position] = place >> halved[signature]
        outside[position] = (step[position] >= length[signature]) | (place & halved[signature] > 0)
        tick = bar_tick + np.where(event >= 0, step[event], 0)
        program = np.zeros(len(flat), np.int64)
        if self.multi:
            named = tokens.latest(kind == Kind.PROGRAM)
            program = np.where(named >= 0, value[named], 0)

        tail = 1 + self.velocity  # tokens of a note after its pitch
        pitch_at = np.flatnonzero((kind == Kind.PITCH) & (at + tail < last[piece]))
        pitch_at = pitch_at[kind[pitch_at + tail] == Kind.DURATION]
        if self.velocity:
            pitch_at = pitch_at[kind[pitch_at + 1] == Kind.VELOCITY]
        owner = piece[pitch_at]
        token = source[pitch_at + tail] - (heads + given)[owner]
        pitch_at, owner, token = (array[token >= 0] for array in (pitch_at, owner, token))
        here = event[pitch_at]
        place = np.where(here >= 0, step[here], 0)

        # Time 0 is the start of the bar in which the completion starts.
        origin = np.minimum(first + begin, np.maximum(last - 1, 0))
        base_tick, base_bar = (np.where(last > first, np.append(of, 0)[origin], 0) for of in (bar_tick, bar_number))
        bars = _bar_table(self, tokens, bar_tick, bar_number, metre, implied, base_tick, base_bar)

        completed = at - first[piece] >= begin[piece]
        asked = (begin > 0)[piece] | (flat == self.pad_id)
        broken = np.flatnonzero(self._broken(tokens, outside, event, program, completed & asked) & completed)
        broken = broken[run_starts(source[broken])]  # a token is broken once
        columns = {
            "piece": owner,
            "onset": np.maximum(tick[pitch_at] - base_tick[owner], 0),
            "duration": np.maximum(value[pitch_at + tail] >> halved[metre[pitch_at]], 1),
            "bar": np.maximum(bar_number[pitch_at] - base_bar[owner], 0),
            "pitch": value[pitch_at],
            "velocity": value[pitch_at + 1] if self.velocity else self._accent(place, metre[pitch_at]),
            "program": program[pitch_at],
            "token": token,
            "broken": _next_note(broken, piece[broken], pitch_at + tail, owner),
        }
        order = sort_order(*(columns[name] for name in ("piece", "onset", "program", "pitch", "duration", "velocity")))
        return Notes(
            n_pieces=pieces,
            bars=bars,
            n_tokens=(sizes - given).astype(np.int32),
            n_broken=np.bincount(piece[broken], minlength=pieces).astype(np.int32),
            **{name: column[order].astype(np.int32) for name, column in columns.items()},
        )

    def _accent(self, place: NDArray[np.integer], metre: NDArray[np.integer]) -> Longs:
        """(N,) velocity at grid steps (N,) since the bar began, under time signatures (N,), token ids."""
        beats, unit = self.value[metre], self.unit[metre]
        beat = np.where((unit == 8) & (beats % 3 == 0), 3, 1) * STEPS_PER_WHOLE // unit
        accent: Longs = np.array(ACCENTS)[np.where(place == 0, 0, np.where(place % beat == 0, 1, 2))]
        return accent

    def _broken(self, tokens: _Tokens, outside: Mask, event: Longs, program: Longs, completed: Mask) -> Mask:
        """(L,) whether the grammar forbids a token at its place.

        Forbidden are a kind that may not follow the previous one, a position outside its bar, off the grid or not after
        the previous position, and a repeated pitch at one position. Special tokens may only be before the first bar,
        and not where `completed` (L,) is True.

        Args:
            outside: (L,) whether a position is outside its bar, or between two steps of the grid.
            event: (L,) index of the latest bar or position; -1 where the piece has none yet.
            program: (L,) in force.
        """
        kind, value, piece = tokens.kind, tokens.value, tokens.piece
        head = np.arange(len(kind)) == tokens.first[piece]
        before = np.where(head, Kind.SPECIAL, np.roll(kind, 1))
        # Special tokens are allowed in the prompt, before the first bar, and not in a completion.
        broken: Mask = ~self.follows[before, kind] | ((kind == Kind.SPECIAL) & completed)
        is_position = kind == Kind.POSITION
        broken |= outside
        # The previous position, if in the same bar.
        previous = np.where(head, -1, np.roll(event, 1))
        same_bar = (previous >= 0) & (kind[previous] == Kind.POSITION)
        broken |= is_position & same_bar & (value <= value[previous])
        # Notes at one position are sorted by program and pitch, so a repetition or a lower note is broken.
        note = np.flatnonzero(kind == Kind.PITCH)
        rank = program[note] * 128 + value[note]
        same_position = ~run_starts(piece[note], event[note])[1:]
        broken[note[1:][same_position & (np.diff(rank) <= 0)]] = True
        return broken

    # ------------------------------------------------------------- encoding

    def encode(self, notes: Notes) -> list[Longs]:
        """Encodes notes as token ids like MidiTok's encoder, for notes that the vocabulary can represent.

        Durations, and velocities if there are tokens for them, are rounded to the nearest token; notes outside the
        pitch range and bars after the last note are left out. No BOS, style or EOS token is added.
        """
        return [self.merge(row) for row in self._encode(notes)] if self.merges else self._encode(notes)

    def _encode(self, notes: Notes) -> list[Longs]:
        low, high = PITCH_RANGE
        fine = notes.bars.unit[notes.bar_row] // 4  # positions in a grid step
        position = notes.position * fine
        keep = (notes.pitch >= low) & (notes.pitch <= high) & (position < len(self._position_ids))
        if not keep.all():
            notes, fine, position = notes.select(keep), fine[keep], position[keep]
        last_bar = np.full(notes.n_pieces, -1)
        np.maximum.at(last_bar, notes.piece, notes.bar)
        bars = notes.bars
        number = rank_within(bars.piece, notes.n_pieces)
        written = number <= last_bar[bars.piece]
        n_bars = int(written.sum())
        opens = run_starts(notes.piece, notes.bar, position)  # first note at its position

        # Bars and notes in one order, each bar before its notes.
        row_piece = np.concatenate([bars.piece[written], notes.piece])
        row_bar = np.concatenate([number[written], notes.bar])
        is_note = np.repeat([0, 1], [n_bars, len(notes)])
        order = np.lexsort((is_note, row_bar, row_piece))
        size = np.concatenate([np.full(n_bars, 2), self.note_size + opens])[order]
        place = np.empty(len(order), np.int64)
        place[order] = np.cumsum(size) - size
        bar_at, note_at = place[:n_bars], place[n_bars:]

        out = np.empty(int(size.sum()), np.int64)
        out[bar_at] = self.bar_id
        out[bar_at + 1] = self._time_ids[bars.unit[written], bars.beats[written]]
        out[note_at[opens]] = self._position_ids[position[opens]]
        note_at = note_at + opens
        if self._program_ids is not None:
            out[note_at] = self._program_ids[notes.program]  # -1, drums, is the last entry
            note_at = note_at + 1
        out[note_at] = self._pitch_ids[notes.pitch]
        if self._velocity_ids is not None:
            out[note_at + 1] = self._velocity_ids[np.clip(notes.velocity, 0, 127)]
        out[note_at + 1 + self.velocity] = self._duration_ids[
            np.clip(notes.duration * fine, 0, len(self._duration_ids) - 1)
        ]
        total = np.bincount(row_piece[order], weights=size, minlength=notes.n_pieces).astype(np.int64)
        return np.split(out, np.cumsum(total)[:-1])

    def keys(self, ids: Longs) -> range:
        """Semitones by which base tokens (L,) can be transposed: to the 12 keys, as far as the pitch range allows.

        Only 0 for music without notes, and for a vocabulary with drums.
        """
        pitch = self.value[ids[self.kind[ids] == Kind.PITCH]]
        if self.multi or not len(pitch):
            return range(1)
        low = max(1 - MAX_TRANSPOSITION, PITCH_RANGE[0] - int(pitch.min()))
        return range(low, min(MAX_TRANSPOSITION, PITCH_RANGE[1] - int(pitch.max())) + 1)

    def transpose(self, ids: Longs, semitones: ArrayLike) -> Longs:
        """Transposes every pitch of base tokens by `semitones` (broadcast against `ids`), within the pitch range.

        Transposes drums too, so use it for single-instrument ids only.
        """
        moved: Longs = np.where(self.kind[ids] == Kind.PITCH, ids + np.asarray(semitones), ids)
        return moved


def _check_size(config: Mapping[str, Any]) -> None:
    """Raises ValueError if a MidiTok configuration has a vocabulary of more than `MAX_TOKENS`, before it is built."""
    steps = [int(quarters.split("_")[1]) * each for quarters, each in config["beat_res"].items()]
    positions = max(map(max, config["time_signature_range"].values())) * max(config["beat_res"].values())
    if max(positions, *steps, *(abs(number) for _, number in integers(config))) > MAX_TOKENS:
        raise ValueError(f"it describes more than {MAX_TOKENS} tokens")


def _value(name: str) -> int:
    kind, value = name.split("_")
    if kind == "Duration":
        beats, steps, resolution = map(int, value.split("."))
        return (beats * resolution + steps) * STEPS_PER_QUARTER // resolution
    if kind == "TimeSig":
        return int(value.split("/")[0])
    return int(value) if value not in {"None"} else 0


def _unit(name: str) -> int:
    kind, value = name.split("_")
    return int(value.split("/")[1]) if kind == "TimeSig" else 4


def _lookup(remi: Remi, kind: Kind, size: int) -> Longs:
    """(size,) id of the token of `kind` with each value; value -1 is the last entry."""
    table = np.full(size, -1, np.int64)
    ids = np.flatnonzero(remi.kind == kind)
    table[remi.value[ids]] = ids
    return table


def _nearest(remi: Remi, kind: Kind, size: int) -> Longs:
    """(size,) id of the token of `kind` with the nearest value; of two the larger."""
    ids = np.flatnonzero(remi.kind == kind)[::-1]
    distance = np.abs(np.arange(size)[:, None] - remi.value[ids][None, :])
    nearest: Longs = ids[distance.argmin(axis=1)]
    return nearest


def _grammar(multi: bool, velocity: bool) -> Mask:
    """(kinds, kinds) whether the second may follow the first."""
    note = Kind.PROGRAM if multi else Kind.PITCH
    allowed = {
        Kind.SPECIAL: {Kind.SPECIAL, Kind.BAR},
        Kind.BAR: {Kind.TIME_SIGNATURE},
        Kind.TIME_SIGNATURE: {Kind.POSITION, Kind.BAR, Kind.END},
        Kind.POSITION: {note},
        Kind.PROGRAM: {Kind.PITCH},
        Kind.PITCH: {Kind.VELOCITY if velocity else Kind.DURATION},
        Kind.VELOCITY: {Kind.DURATION},
        Kind.DURATION: {note, Kind.POSITION, Kind.BAR, Kind.END},
    }
    table = np.zeros((len(Kind), len(Kind)), bool)
    for before, afters in allowed.items():
        table[before, list(afters)] = True
    return table


def _next_note(broken: Longs, piece: Longs, note: Longs, owner: Longs) -> Longs:
    """(N,) number of `broken` tokens before each note is complete; those after the last note of a piece count for it.

    Args:
        broken, piece: flat index of each broken token, and its piece; sorted.
        note, owner: (N,) flat index of the token that completes each note, and its piece; sorted.
    """
    count = np.zeros(len(note), np.int64)
    if len(note):
        after = np.searchsorted(note, broken)
        last = np.searchsorted(owner, piece, side="right") - 1
        has_note = (last >= 0) & (owner[last] == piece)
        np.add.at(count, np.minimum(after, last)[has_note], 1)
    return count


@dataclass(frozen=True, slots=True)
class _Tokens:
    """L tokens of B pieces in one row."""

    kind: NDArray[np.int8]  # (L,)
    value: NDArray[np.int32]  # (L,)
    piece: Longs  # (L,)
    first: Longs  # (B,) index of each piece's first token
    last: Longs  # (B,) one past its last token

    @classmethod
    def of(cls, kind: NDArray[np.int8], value: NDArray[np.int32], sizes: Longs) -> _Tokens:
        """Tokens of pieces of `sizes` (B,)."""
        last = np.cumsum(sizes)
        return cls(kind, value, np.repeat(np.arange(len(sizes)), sizes), last - sizes, last)

    def first_where(self, mask: Mask) -> Longs:
        """(B,) index of the first True of each piece; L + 1, beyond all indices, if there is none."""
        found = np.flatnonzero(mask)
        out = np.full(len(self.first), len(mask) + 1)
        np.minimum.at(out, self.piece[found], found)
        return out

    def latest(self, mask: Mask) -> Longs:
        """(L,) index of the last True of the piece at or before each token; -1 where there is none."""
        at = np.maximum.accumulate(np.where(mask, np.arange(len(mask)), -1))
        return np.where(at >= self.first[self.piece], at, -1)

    def running_sum(self, values: Longs | Mask) -> Longs:
        """(L,) cumulative sum that restarts at the first token of each piece."""
        total = np.cumsum(values, dtype=np.int64)
        running: Longs = total - np.append(0, total)[self.first][self.piece]
        return running


def _in_force(tokens: _Tokens) -> Longs:
    """(L,) index of the last time signature at or before each token.

    Before the first time signature, it is that one if no note token is earlier, else -1 for 4/4 (as in MidiTok).
    """
    is_signature = tokens.kind == Kind.TIME_SIGNATURE
    signature = tokens.first_where(is_signature)
    note = tokens.first_where((tokens.kind >= Kind.PITCH) & (tokens.kind <= Kind.DURATION))
    known = tokens.latest(is_signature)
    return np.where(known >= 0, known, np.where(signature < note, signature, -1)[tokens.piece])


def _bar_table(
    remi: Remi,
    tokens: _Tokens,
    bar_tick: Longs,
    bar_number: Longs,
    metre: Longs,
    implied: Mask,
    base_tick: Longs,
    base_bar: Longs,
) -> Bars:
    """Bars from each piece's base bar on. A bar has the metre (L,), a token id, in effect when the next one starts."""
    is_bar, piece, last = tokens.kind == Kind.BAR, tokens.piece, tokens.last
    at = np.flatnonzero(is_bar)
    owner = piece[at]
    has_bar = np.bincount(owner, minlength=len(last)) > 0
    extra = np.flatnonzero(implied | ~has_bar)  # pieces whose bar 0 has no token
    first_bar = tokens.first_where(is_bar)
    ends = np.where(np.append(owner[1:] == owner[:-1], False), np.append(at[1:], 0), last[owner]) - 1 if len(at) else at
    extra_ends = np.minimum(first_bar[extra], last[extra]) - 1
    empty = last[extra] == np.append(0, last)[extra]
    in_force = np.concatenate([ends, np.where(empty | (extra_ends < 0), -1, extra_ends)])
    metre = np.append(metre, remi.common_time)[in_force]
    rows_piece = np.concatenate([owner, extra])
    number = np.concatenate([bar_number[at], np.zeros(len(extra), np.int64)])
    onset = np.concatenate([bar_tick[at], np.zeros(len(extra), np.int64)])
    keep = number >= base_bar[rows_piece]
    rows_piece, number, onset, metre = (array[keep] for array in (rows_piece, number, onset, metre))
    order = np.lexsort((number, rows_piece))
    return Bars(
        piece=rows_piece[order].astype(np.int32),
        onset=(onset - base_tick[rows_piece])[order].astype(np.int32),
        beats=remi.value[metre[order]],
        unit=remi.unit[metre[order]],
    )
