"""Music with drums and a bass for tests: scores, and corpora prepared from them."""

from __future__ import annotations

import numpy as np
from symusic import core

TICKS = 480
ROOTS = (4, 9, 2, 7)  # of the four bars of a phrase, semitones above C


def track(name, program, events, drums=False):
    """A track of events (16th, length in 16ths, pitch)."""
    made = core.TrackTick(name, program, drums)
    for step, length, pitch in events:
        made.notes.append(core.NoteTick(step * TICKS // 4, length * TICKS // 4, pitch, 90))
    return made


def band(seed=0, bars=8, signatures=((0, 4, 4),), tempos=((0, 120.0),), drums=True, bass=True, program=33, chords=True):
    """A song in which the bass plays the root of each bar with every kick; each seed has its key and its kicks.

    Args:
        signatures: (tick, numerator, denominator).
        tempos: (16th, quarters per minute).
    """
    rng = np.random.default_rng(seed)
    score = core.ScoreTick(TICKS)
    for at, numerator, denominator in signatures:
        score.time_signatures.append(core.TimeSignatureTick(at, numerator, denominator))
    for step, tempo in tempos:
        score.tempos.append(core.TempoTick(step * TICKS // 4, tempo))
    kicks = sorted({0, 8, *rng.choice(np.arange(2, 16, 2), 2, replace=False).tolist()})
    hits, line, harmony = [], [], []
    for bar in range(bars):
        root = (ROOTS[bar % 4] + 5 * seed) % 12
        hits += [(16 * bar + step, 1, 36) for step in kicks]
        hits += [(16 * bar + step, 1, 38) for step in (4, 12)]
        hits += [(16 * bar + step, 1, 42) for step in range(0, 16, 2)]
        line += [(16 * bar + step, 2, 36 + root - 12 * (root > 6)) for step in kicks]
        harmony += [(16 * bar, 16, 60 + root + tone) for tone in (0, 4, 7)]
    if chords:
        score.tracks.append(track("Piano", 0, harmony))
    if bass:
        score.tracks.append(track("Bass", program, line))
    if drums:
        score.tracks.append(track("Drums", 0, hits, drums=True))
    return score


def write_songs(folder, songs):
    """Writes songs, name -> score, as MIDI files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, score in songs.items():
        score.dump_midi(str(folder / f"{name}.mid"))
    return folder


def prepare_songs(folder, songs, recipe="band", collections=1):
    """Folder of a corpus prepared from songs, name -> score; each song is a work."""
    from mgen.cli.prepare import main

    for number in range(collections):
        own = {name: score for i, (name, score) in enumerate(songs.items()) if i % collections == number}
        write_songs(folder / "music" / f"group{number}", own)
    words = [str(folder / "music"), "--recipe", recipe, "--out", str(folder / "corpus"), "--workers", "1"]
    assert main([*words, "--near_duplicates", "ignore"]) == 0
    return folder / "corpus"


def songs(count=12, **changes):
    """Different songs; name -> score."""
    names = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "isle", "jade", "knoll", "lagoon")
    return {names[i]: band(i, **changes) for i in range(count)}
