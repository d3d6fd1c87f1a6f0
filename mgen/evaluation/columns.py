"""The columns of the report, as data: each number's name, aim and words."""

from __future__ import annotations

from mgen.evaluation.comparisons import Column

_TABLE = {
    "told from real music": [
        (
            "c2st_auc",
            "two-sample AUC",
            "0.5",
            2,
            "how well a fresh classifier tells them from real music, 0.5: not at all; the larger of two classifiers",
            "",
        ),
        (
            "c2st_feature",
            "AUC, features",
            "0.5",
            2,
            "how well a fresh classifier tells them from real music, 0.5: not at all; boosting and logistic regression",
            "",
        ),
        (
            "c2st_sequence",
            "AUC, sequence",
            "0.5",
            2,
            "how well a fresh classifier tells them from real music, 0.5: not at all; a network over the notes",
            "",
        ),
        ("frechet", "Fréchet ratio", "1", 2, "Fréchet distance of features over that between halves of real music", ""),
        ("frechet_critic", "Fréchet ratio, critic", "1", 2, "the same in a style critic's hidden states", ""),
        ("frechet_clamp", "Fréchet ratio, CLaMP", "1", 2, "the same in CLaMP's embedding", ""),
        ("oa", "overlapping area", "1", 2, "of distances within the set and to real music, nine features", ""),
        ("kld", "KL of distances", "0", 2, "of the same distances", "nats"),
    ],
    "is it {target}": [
        ("judge_{target}", "judged {target}", "as real", 2, "share that the evaluation's judge calls {target}", ""),
    ],
    "repetition": [
        (
            "loop_rate",
            "loops",
            "as real",
            3,
            "share of pieces with more than 0.6 of pitch 4-grams repeated, sampled at temperature 1",
            "",
        ),
        (
            "loop_rate_08",
            "loops at 0.8",
            "lower",
            2,
            "share of pieces with more than 0.6 of pitch 4-grams repeated, sampled at temperature 0.8",
            "",
        ),
        (
            "loop_rate_greedy",
            "greedy loops",
            "lower",
            2,
            "share of pieces with more than 0.6 of pitch 4-grams repeated, decoded greedily",
            "",
        ),
        ("rep4", "repeated 4-grams", "as real", 3, "share of pitch 4-grams heard before in the piece", ""),
        (
            "rep4_distance",
            "4-grams: distance",
            "0",
            3,
            "how far the distribution over pieces lies from real music's (Wasserstein-1), in the metric's own unit",
            "",
        ),
        ("rep8", "repeated 8-grams", "as real", 3, "share of pitch 8-grams heard before in the piece", ""),
        ("interval_rep8", "repeated intervals", "as real", 3, "share of 8 intervals in a row heard before", ""),
        ("longest_loop", "longest loop", "as real", 1, "longest stretch that repeats at once", "beats"),
        ("compression", "compression", "as real", 3, "size of the zipped pitches; lower repeats more", ""),
    ],
    "harmony": [
        ("H1", "entropy H1", "as real", 2, "entropy of pitch classes in a bar", "bits"),
        (
            "H1_distance",
            "H1: distance",
            "0",
            3,
            "how far the distribution over pieces lies from real music's (Wasserstein-1), in the metric's own unit",
            "",
        ),
        ("H4", "entropy H4", "as real", 2, "entropy of pitch classes in four bars", "bits"),
        ("CPI", "chord irregularity", "as real", 2, "share of different chord trigrams", ""),
        ("scale_consistency", "scale fit", "as real", 2, "largest share of notes in one scale", ""),
    ],
    "rhythm": [
        ("swing", "swing ratio", "as real", 2, "median ratio of the two halves of a beat", ""),
        (
            "swing_distance",
            "swing: distance",
            "0",
            3,
            "how far the distribution over pieces lies from real music's (Wasserstein-1), in the metric's own unit",
            "",
        ),
        ("triplet_share", "triplets", "as real", 2, "share of onsets in triplet subdivisions", ""),
        ("GS", "grooving similarity", "as real", 3, "how alike the rhythms of bars are", ""),
        ("empty_beats", "empty beats", "as real", 3, "share of beats in which nothing sounds", ""),
    ],
    "form": [
        ("SI_short", "structure, short", "as real", 3, "how much returns at the scale of bars", ""),
        ("SI", "structure, mid", "as real", 3, "how much returns at the scale of phrases", ""),
        ("SI_long", "structure, long", "as real", 3, "how much returns at the scale of sections", ""),
    ],
    "texture": [
        ("polyphony", "polyphony", "as real", 2, "notes sounding at a time, where any does", ""),
        ("density", "notes a beat", "as real", 2, "onsets a quarter note", ""),
        ("pitch_range", "range", "as real", 1, "highest minus lowest pitch", "semitones"),
    ],
    "variety": [
        ("vendi_ratio", "Vendi ratio", "1", 2, "effective number of different pieces, over real music's", ""),
        ("self_bleu", "self-BLEU", "as real", 3, "how alike the pieces are to one another", ""),
        ("distinct4", "distinct 4-grams", "as real", 3, "share of different note 4-grams in the set", ""),
        (
            "copy_rate",
            "copies",
            "0.01",
            3,
            "share of pieces with a longer run from the training music than 99 % of held-out music has",
            "",
        ),
    ],
    "the model": [
        ("valid", "valid", "higher", 2, "share of pieces without a token that breaks the grammar", ""),
        ("broken_tokens", "broken tokens", "0", 4, "share of tokens that break the grammar", ""),
        ("nll_note", "surprise", "lower", 2, "by real {target} of the test split", "nats a note"),
        ("kl_piece", "KL", "stated", 1, "distance from the pretrained model, on own pieces", "nats a piece"),
        ("kl_bound", "KL at most", "stated", 1, "bound for best of n", "nats a piece"),
    ],
}
"""Group -> key, title, aim, digits, explanation, unit of each; `{target}` is the style that is asked for."""

_MAIN = {
    "c2st_auc",
    "frechet",
    "judge_{target}",
    "loop_rate_greedy",
    "rep4",
    "H1",
    "swing",
    "SI_short",
    "vendi_ratio",
    "copy_rate",
    "valid",
    "kl_piece",
}
"""What stands in the short table and in the words."""


def columns(target: str) -> list[Column]:
    """The report's columns, in the order of the tables."""
    return [
        Column(
            key.format(target=target),
            title.format(target=target),
            better,
            digits,
            explanation.format(target=target),
            unit,
            group.format(target=target),
            key in _MAIN,
        )
        for group, members in _TABLE.items()
        for key, title, better, digits, explanation, unit in members
    ]
