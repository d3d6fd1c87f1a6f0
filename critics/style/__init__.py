"""The style critic: log P(style | piece), calibrated.

Read in this order:

- `critic.py`: `StyleCritic`, the judge; its score, abstention and credit per bar (`prefix_credit.py`).
- `features.py`: the style features of a piece, computed from onset clusters.
- `ensemble.py`: small networks on them; `feature_model.py` makes their logits a calibrated probability, and
  `out_of_distribution.py` finds pieces that it cannot judge.
- `excerpts.py`: excerpts of all collections of a corpus; `feature_training.py`: the training set made from them.
- `token_training.py`: how the alternative is trained that reads tokens and that plain TRL can load.

How the critic is tested is in `critics.validation`.
"""

from critics.style.critic import INPUTS, MIN_NOTES, WORST, StyleCritic

__all__ = ["INPUTS", "MIN_NOTES", "WORST", "StyleCritic"]
