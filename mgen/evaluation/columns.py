"""The columns of the report: title, aim and explanation of each metric of metrics.json."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mgen.errors import MgenError
from mgen.stats.graded import LENGTHS

AIMS = ("as real", "lower", "higher", "stated")


@dataclass(frozen=True, slots=True)
class MetricColumn:
    """One metric."""

    key: str  # in metrics.json
    title: str  # as shown; without commas, because it is part of lists
    better: str  # `as real`, `lower`, `higher`, `stated` (never compared) or the best value, such as `0.5`
    digits: int = 2  # after the decimal point
    explanation: str = ""  # one or two sentences for readers who do not know the metric
    unit: str = ""  # shown after the title
    group: str = ""  # such as `harmony`; columns of one group share a table
    main: bool = False  # whether it is in the short table and in the summary
    graded: int = 0  # its place, from 1, among the few numbers that open the page and decide comparisons; 0: none

    def __post_init__(self) -> None:
        if self.better not in AIMS and self.best_value is None:
            raise MgenError(f"column {self.key}: better is {self.better!r}; expected {', '.join(AIMS)} or a number")

    @property
    def best_value(self) -> float | None:
        """`better` as a number; None if it is a word."""
        try:
            value = float(self.better)
        except ValueError:
            return None
        return value if math.isfinite(value) else None

    @property
    def aim_in_words(self) -> str:
        """Such as `↓ lower is better`."""
        arrows = {"lower": "↓ lower is better", "higher": "↑ higher is better", "stated": "stated"}
        return arrows.get(self.better) or f"best: {self.better}{' music' if self.better == 'as real' else ''}"


_AUC = "how well a new classifier separates the pieces from real music, 0.5: not at all"
_LOOPS = "share of pieces with more than 0.6 of pitch 4-grams repeated"
_COPIES = "share of pieces that share a longer passage with the training set than 99 % of held-out music does"
_NLL = "negative log-likelihood of real {target} from the test split"
_DISTANCE = "Wasserstein-1 distance of the distribution over pieces from real music's, in the unit of the metric"

_UNTIL = "notes of a piece that a new classifier needs for an AUC of"

_TABLE: dict[str, list[tuple[str, str, str, int, str, str]]] = {
    "the model": [
        ("valid", "whole", "higher", 2, "share of pieces without a token that breaks the grammar", ""),
        ("kl_piece", "KL", "stated", 1, "from the pretrained model, on own pieces", "nats per piece"),
        ("kl_bound", "KL bound", "stated", 1, "upper bound for best of n", "nats per piece"),
        ("broken_tokens", "broken tokens", "0", 3, "share of tokens that break the grammar", ""),
        ("nll_note", "NLL", "lower", 2, _NLL, "nats per note"),
    ],
    "style": [
        ("judge_{target}", "judged {target}", "as real", 2, "share that the evaluation's judge calls {target}", "")
    ],
    "realism by length": [
        (
            "notes_until_told",
            "notes until recognised",
            "higher",
            1,
            f"{_UNTIL} 0.75 between the pieces and real music",
            "",
        ),
        ("notes_until_told_65", "notes until AUC 0.65", "higher", 1, f"{_UNTIL} 0.65", ""),
        ("notes_until_told_90", "notes until AUC 0.90", "higher", 1, f"{_UNTIL} 0.9", ""),
        *(
            (f"auc_by_notes_{n}", f"AUC of {n} notes", "0.5", 2, f"{_AUC}; the first {n} notes of each piece", "")
            for n in LENGTHS
        ),
        (
            "nats_piece",
            "evidence",
            "0",
            2,
            "squared probit of the AUC of the longest excerpts measured",
            "nats per piece",
        ),
    ],
    "repetition": [
        ("loop_rate", "loops", "as real", 3, f"{_LOOPS}, sampled at temperature 1", ""),
        ("loop_rate_05", "loops at 0.5", "lower", 2, f"{_LOOPS}, sampled at temperature 0.5", ""),
        ("loop_rate_08", "loops at 0.8", "lower", 2, f"{_LOOPS}, sampled at temperature 0.8", ""),
        ("loop_rate_greedy", "greedy loops", "lower", 2, f"{_LOOPS}, decoded greedily", ""),
        ("rep4", "repeated 4-grams", "as real", 3, "share of pitch 4-grams that occur earlier in the piece", ""),
        ("rep4_distance", "4-grams: distance", "0", 3, _DISTANCE, ""),
        ("rep8", "repeated 8-grams", "as real", 3, "share of pitch 8-grams that occur earlier in the piece", ""),
        ("interval_rep8", "repeated intervals", "as real", 3, "share of interval 8-grams that occur earlier", ""),
        ("longest_loop", "longest loop", "as real", 1, "longest passage that repeats at once", "beats"),
        ("compression", "compression", "as real", 3, "size of the zipped pitches; lower repeats more", ""),
    ],
    "distance from real music": [
        ("c2st_auc", "two-sample AUC", "0.5", 2, f"{_AUC}; the larger of two classifiers", ""),
        ("c2st_feature", "AUC, features", "0.5", 2, f"{_AUC}; boosting and logistic regression on features", ""),
        ("c2st_sequence", "AUC, sequence", "0.5", 2, f"{_AUC}; a network over the notes", ""),
        ("frechet", "Fréchet ratio", "1", 2, "Fréchet distance of features over that between halves of real music", ""),
        ("frechet_critic", "Fréchet ratio, critic", "1", 2, "the same in a style critic's hidden states", ""),
        ("frechet_clamp", "Fréchet ratio, CLaMP", "1", 2, "the same in CLaMP's embedding", ""),
        ("mmd", "MMD ratio", "1", 2, "squared MMD of features over that between halves of real music", ""),
        ("oa", "overlapping area", "1", 2, "of distances within the set and to real music, nine features", ""),
        ("kld", "KL of distances", "0", 2, "of the same distances", "nats"),
    ],
    "harmony": [
        ("H1", "entropy H1", "as real", 2, "entropy of pitch classes in a bar", "bits"),
        ("H1_distance", "H1: distance", "0", 3, _DISTANCE, ""),
        ("H4", "entropy H4", "as real", 2, "entropy of pitch classes in four bars", "bits"),
        ("CPI", "chord irregularity", "as real", 2, "share of different chord trigrams", ""),
        ("scale_consistency", "scale fit", "as real", 2, "largest share of notes in one scale", ""),
    ],
    "rhythm": [
        ("swing", "swing ratio", "as real", 2, "median ratio of the two halves of a beat", ""),
        ("swing_distance", "swing: distance", "0", 3, _DISTANCE, ""),
        ("triplet_share", "triplets", "as real", 2, "share of onsets in triplet subdivisions", ""),
        ("GS", "grooving similarity", "as real", 3, "similarity of the rhythms of bars", ""),
        ("empty_beats", "empty beats", "as real", 3, "share of beats without a sounding note", ""),
    ],
    "form": [
        ("SI_short", "structure, short", "as real", 3, "similarity at the scale of bars", ""),
        ("SI", "structure, mid", "as real", 3, "similarity at the scale of phrases", ""),
        ("SI_long", "structure, long", "as real", 3, "similarity at the scale of sections", ""),
    ],
    "texture": [
        ("polyphony", "polyphony", "as real", 2, "notes sounding at a time, where any does", ""),
        ("density", "notes per beat", "as real", 2, "onsets per quarter note", ""),
        ("pitch_range", "range", "as real", 1, "highest minus lowest pitch", "semitones"),
    ],
    "variety": [
        ("vendi_ratio", "Vendi ratio", "1", 2, "effective number of different pieces, over real music's", ""),
        ("self_bleu", "self-BLEU", "as real", 3, "similarity of the pieces to one another", ""),
        ("distinct4", "distinct 4-grams", "as real", 3, "share of different note 4-grams in the set", ""),
        ("copy_rate", "copies", "0.01", 3, _COPIES, ""),
    ],
}
"""Group -> key, title, aim, digits, explanation, unit of each column; `{target}` is the target style."""

_MAIN = (
    *("valid", "kl_piece", "judge_{target}", "notes_until_told", "auc_by_notes_36", "loop_rate", "loop_rate_greedy"),
    *("rep4", "c2st_auc", "frechet", "H1", "swing", "SI_short", "vendi_ratio", "copy_rate"),
)
_GRADED = ("judge_{target}", "notes_until_told", "loop_rate", "valid")
COST = "kl_piece"  # key of what fine-tuning costs

SENTENCES = {
    "the model": "Whether the music is well-formed, and how far the model is from the pretrained one.",
    "style": "How often the evaluation's judge, which gives no reward, assigns a piece to the style.",
    "realism by length": "How many notes a new classifier needs to recognise the pieces as generated.",
    "repetition": "How much the pieces repeat, and how many of them are loops.",
    "distance from real music": "How far complete sets of pieces are from real music.",
    "harmony": "Which pitch classes and chords the pieces use.",
    "rhythm": "Swing, triplets and silence; only for music on the beat grid.",
    "form": "How much the pieces return to earlier music, at three scales.",
    "texture": "How many notes sound together, how dense and how wide they are.",
    "variety": "How different the pieces are from one another and from the training set.",
}
"""Group of columns -> what its table shows."""


def columns(target: str) -> list[MetricColumn]:
    """The report's columns, in the order of the tables."""
    return [
        MetricColumn(
            key.format(target=target),
            title.format(target=target),
            better,
            digits,
            explanation.format(target=target),
            unit,
            group,
            key in _MAIN,
            _GRADED.index(key) + 1 if key in _GRADED else 0,
        )
        for group, members in _TABLE.items()
        for key, title, better, digits, explanation, unit in members
    ]
