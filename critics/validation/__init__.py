"""How a style critic is tested. Nothing here trains what is used later.

- `leave_one_out.py`: leave-one-collection-out, AUC on pairs of collections that a critic was not trained on.
- `fitters.py`: the critics that are compared so, among them the ablations of the style critic.
- `shortcut_baseline.py`: how well format alone separates two collections.
- `degenerate_inputs.py`: scores of inputs that are hardly music.
- `card.py`: AUC, calibration and score changes on the test split, as `mgen critic` writes them to card.json.
"""
