"""Every change that is made to `Notes`; nothing here knows judges.

Read `rebuild.py` first: what keeps a table of notes valid after a change, and the type `Transform`. The registries:

- `corruptions.py`, `CORRUPTIONS`: music damaged on purpose, which every metric, reward and critic is tried on.
- `hard_negatives.py`, `HARD_NEGATIVES`: these, those of `wrong_notes.py`, and others that keep the format of a piece,
  for training critics.
- `format_augmentations.py`, `FORMAT_AUGMENTATIONS`: the same music as another file format would keep it.
- `degenerate.py`, `DEGENERATE_INPUTS`: inputs that are hardly music.
- `edits.py`, `EDIT_OPERATORS`: small edits of one piece, for the reward-hacking search.

`format_invariant.py` removes what depends on the file format.
"""
