from __future__ import annotations

import pytest
from midi_bytes import midi_file, note, tempo, track

from mgen.errors import RejectedFile
from mgen.formats.mending import mend
from mgen.formats.midi import parse_midi

HOUR = 3600 * 960  # ticks at 480 a quarter, 120 quarters a minute
TUNE = [event for i in range(64) for event in note(240 * i, 240, 50 + i % 12)]
END = 64 * 240


def melody_alone(part):
    return not part.is_drum


def mended(*tracks, used=lambda part: True, division=480):
    score, repairs = mend(parse_midi(midi_file(*map(track, tracks), division=division))[0], used)
    return score, dict(repairs)


@pytest.mark.parametrize(
    ("events", "reason", "says"),
    [
        ((tempo(0), TUNE), "tempo", "0 microseconds"),
        ((tempo(16_777_215), TUNE), "tempo", "3.6 quarter notes per minute, expected 4 to 2000"),
        ((tempo(1000), TUNE), "tempo", "60000.0 quarter notes"),
        ((tempo(500_000), tempo(0), TUNE), "tempo", "0 microseconds"),  # the later one at a tick holds
        ((TUNE, tempo(0, END - 1)), "tempo", "0 microseconds"),
        ((note(0, 480), note(480, 2 * HOUR)), "long note", "7200 seconds"),
        ((note(0, 480), note(480, 24 * HOUR)), "long note", "86400 seconds"),
        ((TUNE, *(note(0, HOUR, 70 + i) for i in range(8))), "long note", "3600 seconds"),  # 8 of 72 notes
        ((TUNE, note(480 * 30_000, 480)), "too long", "30000 quarter notes"),
        ([note((2**28 - 1) * i, 480) for i in range(10)], "broken", "32 bits"),
    ],
)
def test_what_sounds_rejects(events, reason, says):
    # a wait is at most 2**28 - 1 ticks
    with pytest.raises(RejectedFile) as caught:
        mended(events if isinstance(events[0], tuple) else [event for part in events for event in part])
    assert (caught.value.reason, says in caught.value.detail) == (reason, True), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("absurd", [0, 1000, 16_777_215])
@pytest.mark.parametrize(
    "before_and_after",
    [
        lambda absurd: (tempo(absurd) + tempo(600_000), []),
        lambda absurd: (tempo(600_000), tempo(absurd, END)),
        lambda absurd: (tempo(600_000), tempo(absurd, END + 960) + tempo(500_000, END + 1920)),
        lambda absurd: (tempo(600_000), [*tempo(absurd, END + 480), *tempo(600_000, END + 960), *note(END + 960)]),
    ],
    ids=["replaced at once", "at the end", "after the end", "in a rest"],
)
def test_a_tempo_that_nothing_sounds_under_is_dropped(absurd, before_and_after):
    before, after = before_and_after(absurd)
    score, repairs = mended([*before, *TUNE, *after])
    assert repairs == {"tempo": 1}
    assert score.tempos[0].mspq == 600_000 and absurd not in [one.mspq for one in score.tempos]


def test_a_drum_sounds_at_its_start_alone():
    tail = note(END - 240, HOUR, 49, channel=9)
    assert mended(TUNE, [*tail, *tempo(0, END)])[1] == {"tempo": 1}
    hit = [*tempo(0, END), *note(END + 480, 10, 49, channel=9)]
    assert mended(TUNE, hit, used=melody_alone)[1] == {"tempo": 1}
    with pytest.raises(RejectedFile, match="tempo"):
        mended(TUNE, hit)


@pytest.mark.parametrize("used", [melody_alone, lambda part: True])
def test_how_long_a_drum_lasts_says_nothing(used):
    score, repairs = mended(TUNE, note(0, HOUR, 49, channel=9), used=used)
    assert not repairs and score.note_num() == 65


def test_a_note_without_an_end_gets_the_median_duration():
    score, repairs = mended([*TUNE, *note(480, HOUR, 90)])
    (long,) = [one for one in score.tracks[0].notes if one.pitch == 90]
    assert (long.time, long.duration) == (480, 240) and repairs == {"long note": 1}


def test_only_notes_that_are_used_reject():
    """A bass without ends, drums after the longest time, and notes before time 0 of an overflow."""
    bass = [event for i in range(32) for event in note(480 * i, HOUR, 20 + i, channel=1)]
    late = note(480 * 30_000, 10, 40, channel=9)
    score, repairs = mended(TUNE, bass, late, used=lambda part: part.notes[0].pitch >= 50)
    assert repairs == {"stray note": 1} and score.note_num() == 64 + 32
    for used in (lambda part: part.notes[0].pitch != 40, melody_alone):
        with pytest.raises(RejectedFile, match="long note"):
            mended(TUNE, bass, late, used=used)


def test_a_note_is_long_in_seconds_not_in_ticks():
    ticks = 480 * 1000  # quarters: 500 s at 120 a minute, 1000 s at 60
    assert mended([*tempo(500_000), *note(0, ticks)])[0].tracks[0].notes[0].duration == ticks
    # 400 quarters at 120 are 200 s, then 600 at 60 are 600 s: 800 s together
    with pytest.raises(RejectedFile, match="800 seconds"):
        mended([*tempo(500_000), *note(0, ticks), *tempo(1_000_000, tick=480 * 400)])


def test_a_note_of_a_day_in_ticks_is_not_long_when_they_are_short():
    # 82,944,000 ticks at 32,767 a quarter and 2000 quarters a minute are 76 seconds
    assert not mended([*tempo(30_000), *note(0, 24 * HOUR)], division=32_767)[1]
