"""Makes reward cards of judges, and measures the bands of the rules.

make_cards(["style", "longest_run"], "corpus", critic="runs/critic/model", out="runs/cards")
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critics import CRITICS
from critics.realism.feature_discriminator import FeatureDiscriminator
from critics.realism.token_discriminator import TokenDiscriminator
from mgen.arrays import Longs, Mask
from mgen.cards.page import DEMO, read_cards, write_page
from mgen.cards.reward_card import CardSetup, RewardCard, measure_card, save_card, save_piece
from mgen.cards.reward_hacking import FeatureDistance, SearchReference, initial_pieces
from mgen.cards.scores import CardRow
from mgen.cards.search import SearchBudget
from mgen.corpus.demo import COLLECTIONS, compose
from mgen.corpus.shards import Corpus
from mgen.corpus.split import SPLITS
from mgen.corpus.windows import sample_windows
from mgen.errors import MgenError
from mgen.judgement import Judge
from mgen.models.transformer import check_fits, check_vocabulary, load_policy
from mgen.notes import Notes
from mgen.options import check_required, from_keywords, option, target_style
from mgen.progress import Progress, counted, silent
from mgen.runs.judges import JudgeSpec, build_judge, check_name
from mgen.sampling.prompts import draw_prompts
from mgen.sampling.systems import sample_completions
from mgen.transforms.degenerate import DEGENERATE_INPUTS, random_tokens
from mgen.transforms.edits import SizeLimits
from mgen.transforms.format_augmentations import FORMAT_AUGMENTATIONS
from mgen.transforms.hard_negatives import HARD_NEGATIVES
from mgen.transforms.rebuild import Transform
from mgen.workflows.judges import JUDGES
from rewards import REWARDS, rules
from rewards.bands import Bands, fit_bands, load_bands, save_bands
from rewards.rule import Band

ALL = "all"
PAGE = "cards.md"
MAX_SECONDS = 120.0
DEMO_WORKS = 8
"""Works of each collection of the embedded corpus that a search starts from."""

OTHER = "other music"  # name of the row of all other styles

INITIAL = {"demo": "of the embedded demo music", "corpus": "of the corpus", "policy": "of the policy"}
"""Value of the option `start` -> description of the pieces that a search starts from."""

BAND_EXCERPTS = 512
PROMPT_TOKENS = 24  # of real music that a policy continues


@dataclass
class CardConfig:
    """Options of `mgen card`."""

    corpus: str = option("", "Folder written by mgen prepare: the real music.")
    critic: str = option("", "Model folder of the style critic, for the judge `style`.")
    realism: str = option(
        "", "RUN/realism or RUN/realism_tokens of a run of mgen finetune, for the judge of that name."
    )
    bands: str = option("", "Bands of the rules; measured on the split train by default.")
    style: str = option("", "Style of the corpus that is real music; by default the corpus's own style.")
    split: str = option("test", "Split that judges are measured on.", words=SPLITS)
    n: int = option(256, "Excerpts per row.", least=20)
    tokens: int = option(448, "Tokens of an excerpt; as long as the pieces to be judged.", least=32)
    start: str = option(
        "demo",
        "First generation of the search: demo (embedded music), corpus, or policy (its samples). The exploit of a card "
        "is made of it.",
        words=tuple(INITIAL),
    )
    policy: str = option("", "Model folder of a policy: adds a row of its samples.")
    generations: int = option(2000, "Generations of the search, 64 pieces each.", least=1)
    seconds: float = option(100.0, "Longest time of the search of each judge.", above=0, most=MAX_SECONDS)
    out: str = option("", "Folder for cards, MIDI, pictures and audio.")
    page: str = option("", f"File of the page of all cards; OUT/{PAGE} by default.")
    seed: int = option(0, "Seed of excerpts, transforms and the search.")

    def __post_init__(self) -> None:
        check_required(self, "corpus")
        if self.start == "policy":
            check_required(self, "policy")


@dataclass(frozen=True)
class CardsResult:
    """Cards of one call.

    Attributes:
        cards: one per judge.
        measured_on: description of the music.
        unavailable: why some of `all` judges have no card; empty if none is missing.
    """

    cards: list[RewardCard]
    measured_on: str
    unavailable: str

    def to_json(self) -> dict[str, Any]:
        return {"cards": {card.name: card.to_json() for card in self.cards}}


@dataclass(frozen=True)
class BandsResult:
    """Measured bands, and a description of the music."""

    bands: Bands
    measured_on: str

    def to_json(self) -> dict[str, Any]:
        return {"bands": {name: {"low": band.low, "high": band.high} for name, band in self.bands.items()}}


def make_cards(
    names: Sequence[str], corpus: Path | str, progress: Progress | None = None, **options: Any
) -> CardsResult:
    """Measures judges, and writes their cards and the page of all cards to `out`, if it is given.

    Args:
        names: of judges, or `all`.
        corpus: folder written by `mgen prepare`.
        progress: receives lines on the progress.
        options: fields of `CardConfig`.

    Raises:
        MgenError: A judge or an option is invalid, or a file that it needs is missing.
    """
    config = from_keywords(CardConfig, "card", {"corpus": str(corpus), **options})
    report = progress or silent
    names = _check_names(names)
    out = Path(config.out) if config.out else None
    if out is not None and out.exists() and not out.is_dir():
        raise MgenError(f"{out}: expected a folder, found a file; choose another --out")
    music = Corpus.open(config.corpus)
    style = target_style(config.style, music.remi.style_ids, "style")
    train = Excerpts.draw(music, "train", [style], max(config.n, BAND_EXCERPTS), config)
    judges, unavailable = build_judges(names, config, music, train)
    setup = make_setup(config, music, style, train.notes)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        save_piece(setup.demo, out, DEMO)
    budget = SearchBudget(config.generations, config.seconds)
    cards = []
    for name, judge in counted(report, "cards", judges.items()):
        began = time.monotonic()
        card = measure_card(name, judge, setup, budget, config.seed, report)
        cards.append(card)
        report(f"{name}: {time.monotonic() - began:.0f} s")
        if out is not None:
            save_card(card, out)
            write_page(read_cards(out), out, Path(config.page) if config.page else out / PAGE)
    return CardsResult(cards, setup.measured_on["description"], unavailable)


def measure_bands(corpus: Path | str, out: Path | str, **options: Any) -> BandsResult:
    """Measures the bands of all rules on the split train, and writes them to the file `out`.

    Args:
        corpus: folder written by `mgen prepare`.
        options: fields of `CardConfig`; `style`, `n`, `tokens` and `seed` are used.

    Raises:
        MgenError: An option is invalid, or `out` is no file in an existing folder.
    """
    config = from_keywords(CardConfig, "card", {**options, "corpus": str(corpus), "out": str(out)})
    path = Path(config.out)
    if path.is_dir() or not path.parent.is_dir():
        raise MgenError(f"{path}: expected the name of a file in a folder that exists; choose another --out")
    music = Corpus.open(config.corpus)
    style = target_style(config.style, music.remi.style_ids, "style")
    excerpts = Excerpts.draw(music, "train", [style], max(config.n, BAND_EXCERPTS), config)
    bands = fit_bands(excerpts.notes, excerpts.on_grid)
    save_bands(bands, path)
    return BandsResult(bands, excerpts.description)


def _check_names(names: Sequence[str]) -> list[str]:
    known = [*REWARDS, *CRITICS]
    if not names:
        raise MgenError(f"mgen card: expected the names of judges, got none; give {ALL}, or of {', '.join(known)}")
    for name in names:
        if name != ALL:
            check_name(JudgeSpec.parse(name, "card", 1.0).name, JUDGES, "card")
    return [ALL] if ALL in names else list(dict.fromkeys(names))


def build_judges(
    names: Sequence[str], config: CardConfig, corpus: Corpus, train: Excerpts
) -> tuple[dict[str, Judge], str]:
    """Returns the judges by name, and why some of `all` are unavailable, in words."""
    bands: Mapping[str, Band] = {}
    if set(names) - set(CRITICS):  # rules; a judge of another package needs no bands
        bands = load_bands(Path(config.bands)) if config.bands else fit_bands(train.notes, train.on_grid)
    missing = []
    if ALL in names:
        folders = {"style": config.critic, "realism": config.realism}
        names = [*rules(bands), *(name for name, folder in folders.items() if folder)]
        missing = [name for name in (*REWARDS, *folders) if name not in names]
    judges: dict[str, Judge] = {}
    for name in names:
        if name in ("realism", "realism_tokens"):
            if not config.realism:
                raise MgenError(f"mgen card {name}: expected --realism RUN/{name} of a run of mgen finetune")
            tokens = name == "realism_tokens"
            judges[name] = (
                TokenDiscriminator.from_pretrained(config.realism, corpus.remi)
                if tokens
                else FeatureDiscriminator.from_pretrained(config.realism)
            )
        else:
            spec = JudgeSpec.parse(name, "card", 1.0)
            judges[spec.name] = build_judge(spec, JUDGES, corpus.remi, bands=bands, critic=config.critic)
    why = "a rule needs a band, style needs --critic, realism needs --realism"
    return judges, f"no card of {', '.join(missing)}: {why}" if missing else ""


@dataclass(frozen=True)
class Excerpts:
    """Excerpts of a corpus.

    Attributes:
        ids: token ids of each.
        notes: their notes.
        works: (B,) their works.
        on_grid: (B,) whether each is of a piece on the beat grid.
        description: number, works and collections, in words.
    """

    ids: list[Longs]
    notes: Notes
    works: NDArray[np.str_]
    on_grid: Mask
    description: str

    @classmethod
    def draw(cls, corpus: Corpus, split: str, styles: Sequence[str], n: int, config: CardConfig) -> Excerpts:
        """Draws n excerpts of `config.tokens` tokens, in equal shares from some styles."""
        ids: list[Longs] = []
        works, on_grid, collections = [], [], set()
        for place, style in enumerate(styles):
            table = corpus.table(split, style)
            count = n // len(styles) + (place < n % len(styles))
            if not count:
                continue
            rng = np.random.default_rng([config.seed, place, n])
            windows, piece = sample_windows(table, corpus.remi, count, config.tokens, rng)
            ids += list(windows)
            works.append(table.rows["group"].to_numpy(str)[piece])
            on_grid.append(table.rows["on_grid"].to_numpy(bool)[piece])
            collections |= set(table.rows["collection"].to_numpy(str)[piece].tolist())
        work = np.concatenate(works)
        description = f"{n} excerpts of {len(np.unique(work))} works ({', '.join(sorted(collections))})"
        return cls(ids, Notes.from_ids(ids, corpus.remi), work, np.concatenate(on_grid), description)


def make_setup(config: CardConfig, corpus: Corpus, style: str, train: Notes) -> CardSetup:
    """Builds the rows and the search reference that all judges of a call share."""
    remi = corpus.remi
    excerpts = Excerpts.draw(corpus, config.split, [style], config.n, config)
    real, description = excerpts.notes, f"{excerpts.description} of {style}"
    rows = {style: CardRow(real, excerpts.works, False, "real")}
    others = [name for name in remi.style_ids if name != style and len(corpus.table(config.split, name))]
    if others:
        other = Excerpts.draw(corpus, config.split, others, config.n, config)
        rows[OTHER] = CardRow(other.notes, other.works, False, "other")
        description += f" and {other.description} of other music"
    if config.policy:
        rows["policy"] = _sample_policy(config, corpus, style)

    def rng() -> np.random.Generator:
        return np.random.default_rng(config.seed)

    transforms: dict[str, dict[str, Transform]] = {"corrupted": HARD_NEGATIVES, "format": FORMAT_AUGMENTATIONS}
    for kind, by_name in transforms.items():
        for name, transform in by_name.items():
            rows[name] = CardRow(transform(real, rng()), excerpts.works, True, kind)
    for name, build in DEGENERATE_INPUTS.items():
        rows[name] = CardRow(build(real, rng()), None, False, "degenerate")
    rows["random tokens"] = CardRow(random_tokens(real, rng(), remi, config.tokens), None, False, "degenerate")
    demo = Notes.from_scores([compose(name, i) for name in COLLECTIONS for i in range(DEMO_WORKS)])
    music = rows["policy"].notes if config.start == "policy" else {"demo": demo, "corpus": real}[config.start]
    initial = initial_pieces(music, SizeLimits.of(real), config.seed)
    reference = SearchReference(real, FeatureDistance.of(train), remi, config.tokens)
    measured_on: dict[str, Any] = {
        "description": f"{description}, {config.tokens} tokens each, split {config.split}",
        "style": style,
        "initial_pieces": INITIAL[config.start],
        "fingerprint": corpus.fingerprint,
        "tokens": config.tokens,
        "n": config.n,
        "seed": config.seed,
    }
    return CardSetup(rows, excerpts.ids, reference, initial, reference.reencode(demo.pieces([0])), measured_on)


def _sample_policy(config: CardConfig, corpus: Corpus, style: str) -> CardRow:
    """A policy's continuations of real prompts, as long as an excerpt, and the real continuations."""
    policy, remi = load_policy(config.policy)
    check_vocabulary(config.policy, remi, config.corpus, corpus.remi)
    length = round(config.tokens / remi.base_per_token)
    check_fits(config.policy, policy.config, ("prompt", PROMPT_TOKENS), ("tokens", length))
    rng = np.random.default_rng(config.seed)
    prompts = draw_prompts(corpus, config.split, "continuation", config.n, PROMPT_TOKENS, length, style, rng)
    ids = prompts.ids.tolist()
    notes = Notes.from_completions(ids, sample_completions(policy, ids, length, remi, config.seed), remi)
    return CardRow(notes, prompts.work, False, "policy", prompts.real(remi))
