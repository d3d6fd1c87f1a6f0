"""A judge's card: what it says of real, of broken and of no music, what it costs, and the piece that fools it.

    mgen card style longest_run --corpus corpus --critic runs/critic/model --out runs/cards

`mgen card all` makes the card of every judge, `mgen card --fit` only measures the bands of the rules. Every card is a
folder of its own under --out; the page is written anew from all cards that lie there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from critics import CRITICS
from critics.realism.critic import RealismCritic
from mgen.cards.card import Card, Subject, measure_card, number, save_card, save_piece
from mgen.cards.page import DEMO, read_cards, write_page
from mgen.cards.reward_hacking import Reference, Strangeness, starts
from mgen.cards.scores import Row
from mgen.cards.search import Budget
from mgen.cli.options import parse
from mgen.corpus.demo import COLLECTIONS, compose
from mgen.corpus.shards import Corpus
from mgen.corpus.windows import sample_windows
from mgen.errors import MgenError
from mgen.judgement import Judge
from mgen.models.transformer import load_policy
from mgen.notes import Notes
from mgen.runs.judges import JudgeSpec, build_judge, check_name
from mgen.sampling.prompts import check_style
from mgen.sampling.rollout import Decoding, sample
from mgen.transforms.degenerate import DEGENERATE_INPUTS, random_tokens
from mgen.transforms.edits import SizeLimits
from mgen.transforms.format_augmentations import FORMAT_AUGMENTATIONS
from mgen.transforms.hard_negatives import HARD_NEGATIVES
from mgen.transforms.rebuild import Transform
from mgen.workflows.judges import JUDGES
from rewards import REWARDS, rules
from rewards.bands import Band, fit_bands, load_bands, save_bands

ALL = "all"
PAGE = "cards.md"
MOST_SECONDS = 120.0
DEMO_WORKS = 8
"""Works of each collection of the embedded corpus that a search starts from."""

OTHER = "other music"
"""Name of the row of all other styles."""

STARTS = {"demo": "of the embedded demo music", "corpus": "of the corpus"}
BAND_EXCERPTS = 512


@dataclass
class CardConfig:
    """Options of `mgen card`."""

    corpus: str = field(default="", metadata={"help": "Folder written by mgen prepare: the real music."})
    critic: str = field(default="", metadata={"help": "Model folder of the style critic, for the judge `style`."})
    realism: str = field(
        default="", metadata={"help": "RUN/realism of a run of mgen finetune, for the judge `realism`."}
    )
    bands: str = field(default="", metadata={"help": "Bands of the rules; measured on the split train by default."})
    style: str = field(default="jazz", metadata={"help": "Style of the corpus that is real music here."})
    split: str = field(default="test", metadata={"help": "Split that judges are tried on."})
    n: int = field(default=256, metadata={"help": "Excerpts in each row."})
    tokens: int = field(default=448, metadata={"help": "Tokens of an excerpt: what will be judged should be as long."})
    fit: bool = field(default=False, metadata={"help": "Only measure the bands of all rules; --out is their file."})
    start: str = field(
        default="demo",
        metadata={"help": "Music that the search starts from: demo (embedded), or corpus, which may come out again."},
    )
    policy: str = field(default="", metadata={"help": "Model folder of a policy: a row, and starts for the search."})
    generations: int = field(default=2000, metadata={"help": "Generations of the search, 64 pieces each."})
    seconds: float = field(default=100.0, metadata={"help": "At most so long for each judge's search."})
    out: str = field(default="", metadata={"help": "Folder for cards, pieces, pictures and sound."})
    page: str = field(default="", metadata={"help": f"Where to write the page of all cards; OUT/{PAGE} by default."})
    seed: int = field(default=0, metadata={"help": "Of excerpts, of what is broken how, and of the search."})
    json: bool = field(default=False, metadata={"help": "Print one JSON object and nothing else."})

    def __post_init__(self) -> None:
        if not self.corpus:
            raise ValueError("expected --corpus, got none; see --help")
        for name, least in (("n", 20), ("tokens", 32), ("generations", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} ({getattr(self, name)}) must be at least {least}")
        if not 0 < self.seconds <= MOST_SECONDS:
            raise ValueError(f"seconds ({self.seconds:g}) must be above 0 and at most {MOST_SECONDS:g}")
        if self.start not in STARTS:
            raise ValueError(f"start '{self.start}': expected one of {', '.join(STARTS)}")
        if self.fit and not self.out:
            raise ValueError("fit: expected --out FILE for the bands, got none")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure cards, or bands; returns the exit code."""

    def positional(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("names", nargs="*", metavar="NAME", help=f"{ALL}, {', '.join([*REWARDS, *CRITICS])}")

    config, words = parse(
        argv,
        CardConfig,
        program="mgen card",
        example="mgen card style longest_run --corpus corpus --critic runs/critic/model --out runs/cards",
        positional=positional,
    )
    began = time.monotonic()
    if config.fit:
        return _fit(config, words.names)
    names = _names(words.names)
    out = Path(config.out) if config.out else None
    if out is not None and out.exists() and not out.is_dir():
        raise MgenError(f"{out}: expected a folder, found a file; choose another --out")
    corpus = Corpus.open(config.corpus)
    check_style(config.style, corpus.remi)
    console = Console(stderr=True, soft_wrap=True)
    cards = []
    with console.status("excerpts are read") as status:
        train, _, _ = _excerpts(
            corpus, "train", [config.style], max(config.n, BAND_EXCERPTS), config.tokens, config.seed
        )
        judges, left_out = _judges(names, config, corpus, train)
        subject = _subject(config, corpus, train)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            save_piece(subject.demo, out, DEMO)
        budget = Budget(config.generations, config.seconds)
        for place, (name, judge) in enumerate(judges.items(), 1):
            which = f"{name} ({place} of {len(judges)}): "

            def tell(line: str, which: str = which) -> None:
                status.update(which + line)

            card = measure_card(name, judge, subject, budget, config.seed, tell)
            cards.append(card)
            if out is not None:
                save_card(card, out)
                page = Path(config.page) if config.page else out / PAGE
                write_page(read_cards(out), out, page)
    if config.json:
        print(json.dumps({"cards": {card.name: card.to_json() for card in cards}}))
    else:
        _print(cards, subject, out, left_out, time.monotonic() - began)
    return 0


def _names(words: Sequence[str]) -> list[str]:
    """The judges that are asked for, each once."""
    known = [*REWARDS, *CRITICS]
    if not words:
        raise MgenError(f"mgen card: expected the names of judges, got none; give {ALL}, or of {', '.join(known)}")
    if ALL in words:
        return [ALL]
    for word in words:
        check_name(JudgeSpec.parse(word, "card", 1.0).name, JUDGES, "card")
    return list(dict.fromkeys(words))


def _fit(config: CardConfig, names: Sequence[str]) -> int:
    """Measure the bands of all rules on music of the split train."""
    if names:
        raise MgenError(f"mgen card --fit: measures the bands of all rules, got the name '{names[0]}'; leave it out")
    path = Path(config.out)
    if path.is_dir() or not path.parent.is_dir():
        raise MgenError(f"{path}: expected the name of a file in a folder that exists; choose another --out")
    corpus = Corpus.open(config.corpus)
    check_style(config.style, corpus.remi)
    n = max(config.n, BAND_EXCERPTS)
    notes, _, words = _excerpts(corpus, "train", [config.style], n, config.tokens, config.seed)
    bands = fit_bands(notes)
    save_bands(bands, path)
    if config.json:
        print(json.dumps({"bands": {name: {"low": band.low, "high": band.high} for name, band in bands.items()}}))
        return 0
    table = Table("band", "from", "to", title=f"{path}: {words}", title_justify="left")
    for name, band in bands.items():
        table.add_row(name, number(band.low), number(band.high))
    console = Console(soft_wrap=True)
    console.print(table)
    for name, why in bands.left_out.items():
        console.print(f"no band of {name}: {why}", highlight=False, markup=False)
    return 0


def _judges(names: Sequence[str], config: CardConfig, corpus: Corpus, train: Notes) -> tuple[dict[str, Judge], str]:
    """The judges by name, and in words which of all there are none of."""
    bands: Mapping[str, Band] = {}
    if set(names) - set(CRITICS):  # the rules; a judge of another package needs none
        bands = load_bands(Path(config.bands)) if config.bands else fit_bands(train)
    left_out = []
    if ALL in names:
        given = dict(zip(CRITICS, (config.critic, config.realism), strict=True))
        names = [*rules(bands), *(name for name, folder in given.items() if folder)]
        left_out = [name for name in (*REWARDS, *CRITICS) if name not in names]
    judges: dict[str, Judge] = {}
    for name in names:
        if name == "realism":
            if not config.realism:
                raise MgenError(f"mgen card {name}: expected --realism RUN/realism of a run of mgen finetune")
            judges[name] = RealismCritic.from_pretrained(config.realism, corpus.remi)
        else:
            spec = JudgeSpec.parse(name, "card", 1.0)
            judges[spec.name] = build_judge(spec, JUDGES, corpus.remi, bands=bands, critic=config.critic)
    why = "a rule without a band has none, style needs --critic, and realism --realism"
    return judges, f"no card of {', '.join(left_out)}: {why}" if left_out else ""


def _excerpts(
    corpus: Corpus, split: str, styles: Sequence[str], n: int, tokens: int, seed: int
) -> tuple[Notes, NDArray[np.str_], str]:
    """n excerpts in equal shares of some styles, their works, and what they are in words."""
    ids, works, words = _windows(corpus, split, styles, n, tokens, seed)
    return Notes.from_ids(ids, corpus.remi), works, words


def _windows(
    corpus: Corpus, split: str, styles: Sequence[str], n: int, tokens: int, seed: int
) -> tuple[list[NDArray[np.int64]], NDArray[np.str_], str]:
    ids: list[NDArray[np.int64]] = []
    works, collections = [], set()
    for place, style in enumerate(styles):
        table = corpus.table(split, style)
        count = n // len(styles) + (place < n % len(styles))
        if not count:
            continue
        rng = np.random.default_rng([seed, place, n])
        windows, piece = sample_windows(table, corpus.remi, count, tokens, rng)
        ids += list(windows)
        works.append(table.rows["group"].to_numpy(str)[piece])
        collections |= set(table.rows["collection"].to_numpy(str)[piece].tolist())
    work = np.concatenate(works)
    words = f"{n} excerpts of {len(np.unique(work))} works ({', '.join(sorted(collections))})"
    return ids, work, words


def _subject(config: CardConfig, corpus: Corpus, train: Notes) -> Subject:
    """The rows that every judge of a run is tried on."""
    remi, style = corpus.remi, config.style
    ids, works, words = _windows(corpus, config.split, [style], config.n, config.tokens, config.seed)
    real = Notes.from_ids(ids, remi)
    rows = {style: Row(real, works, False, "real")}
    others = [name for name in remi.style_ids if name != style and len(corpus.table(config.split, name))]
    told = f"{words} of {style}"
    if others:
        notes, work, words = _excerpts(corpus, config.split, others, config.n, config.tokens, config.seed)
        rows[OTHER] = Row(notes, work, False, "other")
        told += f" and {words} of other music"
    if config.policy:
        rows["policy"] = Row(_played(config), None, False, "policy")
    changes: dict[str, dict[str, Transform]] = {"broken": HARD_NEGATIVES, "format": FORMAT_AUGMENTATIONS}
    for kind, by_name in changes.items():
        for name, change in by_name.items():
            rows[name] = Row(change(real, np.random.default_rng(config.seed)), works, True, kind)
    for name, build in DEGENERATE_INPUTS.items():
        rows[name] = Row(build(real, np.random.default_rng(config.seed)), None, False, "senseless")
    rows["random tokens"] = Row(
        random_tokens(real, np.random.default_rng(config.seed), remi, config.tokens), None, False, "senseless"
    )
    demo = Notes.from_scores([compose(name, i) for name in COLLECTIONS for i in range(DEMO_WORKS)])
    begin = starts(real if config.start == "corpus" else demo, SizeLimits.of(real), config.seed)
    if config.policy:
        begin = [*begin, *starts(rows["policy"].notes, SizeLimits.of(real), config.seed)]
    reference = Reference(real, Strangeness.of(train), remi, config.tokens)
    measured: dict[str, Any] = {
        "words": f"{told}, {config.tokens} tokens each, split {config.split}",
        "style": style,
        "start": STARTS[config.start] + (" and of a policy" if config.policy else ""),
        "fingerprint": corpus.fingerprint,
        "tokens": config.tokens,
        "n": config.n,
        "seed": config.seed,
    }
    one = reference.written(demo.pieces([0]))
    return Subject(rows, ids, reference, begin, one, measured)


def _played(config: CardConfig) -> Notes:
    """What a policy plays from nothing but the style token."""
    policy, remi = load_policy(config.policy)
    generator = torch.Generator(policy.device).manual_seed(config.seed)
    check_style(config.style, remi)
    prompts = [[remi.bos_id, remi.style_ids[config.style]]] * config.n
    decoding = Decoding(max_new_tokens=config.tokens)
    completions, _ = sample(policy, prompts, decoding, remi.eos_id, remi.pad_id, generator).lists()
    return Notes.from_ids(completions, remi)


def _print(cards: Sequence[Card], subject: Subject, out: Path | None, left_out: str, seconds: float) -> None:
    table = Table(title="scores: medians, and the piece that fools the judge", title_justify="left")
    table.add_column("judge", no_wrap=True)
    for name in ("real", "other", "exploit", "strangeness", "µs/token"):
        table.add_column(name, justify="right", no_wrap=True)
    for card in cards:
        other, exploit = card.rows.get(OTHER), card.exploit
        table.add_row(
            card.name,
            number(exploit.median),
            number(other.median if other else None),
            f"{number(exploit.score)}{'' if exploit.reached else ' (below real)'}",
            f"{exploit.strangeness:.2f}",
            number(card.cost.token),
        )
    console = Console(soft_wrap=True)
    console.print(table)
    console.print(subject.measured_on["words"], highlight=False, markup=False)
    if left_out:
        console.print(left_out, highlight=False, markup=False)
    console.print(f"{f'{out}: ' if out else ''}{len(cards)} cards, {seconds:.0f} s", highlight=False, markup=False)
