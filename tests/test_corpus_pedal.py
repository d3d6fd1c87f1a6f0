from symusic import core

from mgen.corpus.pedal import hold_pedal


def score(notes, controls, is_drum=False):
    """One track of notes (onset, duration, pitch) and controls (time, value) of the pedal, or (time, number, value)."""
    out = core.ScoreTick(480)
    track = core.TrackTick("", 0, is_drum)
    for onset, duration, pitch in notes:
        track.notes.append(core.NoteTick(onset, duration, pitch, 80))
    for time, *number, value in controls:
        track.controls.append(core.ControlChangeTick(time, *(number or [64]), value))
    out.tracks.append(track)
    return out


def lengths(score):
    return [note.duration for note in score.tracks[0].notes]


def test_a_note_sounds_until_the_pedal_goes_up():
    # the first ends before the pedal, the second as it goes down, the third and fourth under it, the last after it
    notes = [(0, 40, 60), (50, 50, 61), (100, 50, 62), (120, 300, 63), (120, 380, 64)]
    held, count = hold_pedal(score(notes, [(100, 127), (200, 64), (480, 63)]))
    assert (lengths(held), count) == ([40, 50, 380, 360, 380], 2)


def test_a_pitch_played_again_ends_the_note_before():
    notes = [(0, 10, 60), (0, 10, 64), (100, 10, 60), (100, 10, 72), (300, 400, 72)]
    held, count = hold_pedal(score(notes, [(0, 100), (500, 0)]))
    assert (lengths(held), count) == ([100, 500, 400, 200, 400], 4)


def test_a_pedal_without_an_end_holds_until_the_last_note_ends():
    held, count = hold_pedal(score([(0, 10, 60), (100, 50, 64)], [(5, 80)]))
    assert (lengths(held), count) == ([150, 50], 1)


def test_a_reset_of_controllers_lifts_the_pedal():
    assert hold_pedal(score([(0, 10, 60), (100, 50, 64)], [(5, 80), (70, 121, 0)]))[1] == 1


def test_without_a_pedal_and_for_drums_nothing_changes():
    for unchanged in (score([(0, 10, 60)], [(0, 63)]), score([(0, 10, 60)], [(0, 127), (90, 0)], is_drum=True)):
        assert hold_pedal(unchanged) == (unchanged, 0)
