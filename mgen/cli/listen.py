"""Listen blind: pairs of takes, and votes on which is better.

    mgen listen runs/evaluation
    mgen listen runs/base runs/jazz --corpus corpus --pairs 40

A RUN is an evaluation's folder, a folder of MIDI files, or a trained run: models continue prompts of the test split of
--corpus, and real music does too. Who plays is not told before `mgen votes` reads what was voted. Stays on this machine
unless --host says otherwise, and then asks for a token.
"""

from __future__ import annotations

import argparse
import hashlib
import ipaddress
import json
import logging
import secrets
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mgen.cli.options import parse
from mgen.errors import MgenError
from mgen.extras import import_extra
from mgen.listen.sound import Sounds, score_of
from mgen.listen.store import Store, Study
from mgen.listen.takes import Recording, draw_pairs, from_midi, from_samples, is_evaluation, join
from mgen.sampling.samples import TOKENIZER, SamplePrompt, write_samples

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MADE = "made.json"
_PROMPT_TYPE = "continuation"


@dataclass
class ListenConfig:
    """Options of `mgen listen`."""

    corpus: str = field(default="", metadata={"help": "Folder written by mgen prepare; needed to let models play."})
    players: list[str] = field(default_factory=list, metadata={"help": "Players to compare; all by default."})
    pairs: int = field(default=30, metadata={"help": "Pairs that each rater is asked about."})
    seconds: float = field(default=20.0, metadata={"help": "Most that is played of a take."})
    question: str = field(default="Which do you like better?", metadata={"help": "What is asked above each pair."})
    out: str = field(default="votes.sqlite", metadata={"help": "File of the votes; one that is there is taken up."})
    host: str = field(default="127.0.0.1", metadata={"help": "Address to listen on; 0.0.0.0 for all of this machine."})
    port: int = field(default=8765, metadata={"help": "Port to listen on; 0 takes any that is free."})
    token: str = field(
        default="",
        metadata={"help": "Asked for before anything else; made up where --host is not this machine alone."},
    )
    names: list[str] = field(
        default_factory=list,
        metadata={"help": "Further host names that the page is reached under, as through a proxy."},
    )
    target: str = field(default="jazz", metadata={"help": "Style that models are asked for."})
    prompt_tokens: int = field(default=64, metadata={"help": "Tokens of music in a prompt."})
    completion_tokens: int = field(default=192, metadata={"help": "Tokens of a completion, real or sampled."})
    seed: int = field(default=0, metadata={"help": "Of prompts, samples, pairs and orders."})

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise ValueError(f"pairs ({self.pairs}) must be at least 1")
        if not 3 <= self.seconds <= 120:
            raise ValueError(f"seconds ({self.seconds:g}) must be from 3 to 120")
        if not 0 <= self.port < 2**16:
            raise ValueError(f"port ({self.port}) must be from 0, any that is free, to 65535")
        if not self.question.strip() or len(self.question) > 200:
            raise ValueError(f"question ({len(self.question)} letters) must have from 1 to 200")
        if self.token and len(self.token) < 8:
            raise ValueError(f"token ({len(self.token)} letters) must have at least 8; leave it out and one is made up")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the page until Ctrl-C; returns the exit code."""

    def positional(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("runs", nargs="+", metavar="RUN", help="RUN or NAME=RUN: evaluation, MIDI folder or run")

    config, words = parse(
        argv, ListenConfig, program="mgen listen", example="mgen listen runs/evaluation", positional=positional
    )
    for module in ("starlette", "uvicorn"):
        import_extra(module, "listen", "mgen listen")
    listener = bind(config.host, config.port)  # before the work: a busy port is told at once
    with listener:
        recordings, vocabulary = gather(name_runs(words.runs), config)
        study, pairs = make_study(recordings, vocabulary, config)
        store = Store.open(config.out, study)
        sounds = Sounds(pairs, config.seconds)
        try:
            serve(store, sounds, listener, config)
        finally:
            sounds.close()
            counts = store.counts()
            store.close()
    print(
        f"\n{config.out}: {counts['votes']} votes of {counts['raters']} raters; see them with: mgen votes {config.out}"
    )
    return 0


def name_runs(words: Sequence[str]) -> dict[str, Path]:
    """`NAME=FOLDER` or `FOLDER` words to folders by name; RUN/model is called RUN.

    Raises:
        MgenError: Two runs have one name, or a folder is not there.
    """
    out: dict[str, Path] = {}
    for word in words:
        name, equals, folder = word.partition("=")
        path = Path(folder if equals else word)
        if not path.is_dir():
            raise MgenError(f"{word}: no such folder; give an evaluation, a folder of MIDI files or a trained run")
        if not equals:
            path_named = path.resolve()
            name = path_named.parent.name if path_named.name == "model" else path_named.name
        if not name or name in out or name == "real":
            raise MgenError(f"{word}: the name '{name}' is taken; give NAME=FOLDER")
        out[name] = path
    return out


def gather(runs: Mapping[str, Path], config: ListenConfig) -> tuple[list[Recording], tuple[str, ...] | None]:
    """The takes of all runs on common prompts, and the names of their tokens where they are known."""
    found: dict[str, list[Recording]] = {}
    vocabularies: list[tuple[str, ...] | None] = []
    models: dict[str, Path] = {}
    for name, folder in runs.items():
        if is_evaluation(folder):
            found[name] = from_samples(folder)
            vocabularies.append(_vocabulary(folder))
        elif model := _model_folder(folder):
            models[name] = model
        else:
            found[name] = from_midi(folder, name)
    if models:
        folder = Path(config.out).with_suffix(".takes")
        let_play(models, folder, config)
        found = {folder.name: from_samples(folder), **found}
        vocabularies.insert(0, _vocabulary(folder))
    known = set(vocabularies)
    vocabulary = known.pop() if len(known) == 1 else None  # two vocabularies, and an id has no one name
    return join(found, config.players, config.seed), vocabulary


def let_play(models: Mapping[str, Path], folder: Path, config: ListenConfig) -> None:
    """Let models and real music continue the same prompts of the test split, and keep what they played in a folder.

    A folder that already holds just that is left as it is.

    Raises:
        MgenError: There is no corpus, a model does not fit it, or the folder holds something else.
    """
    import numpy as np
    import torch

    from mgen.corpus.shards import Corpus
    from mgen.models.transformer import check_vocabulary, load_policy
    from mgen.sampling.prompts import draw_prompts
    from mgen.sampling.rollout import Decoding, sample

    if not config.corpus:
        raise MgenError(f"{', '.join(models)}: models, which need prompts to continue; give --corpus, or an evaluation")
    corpus = Corpus.open(config.corpus)
    n, tokens = min(config.pairs, 256), (config.prompt_tokens, config.completion_tokens)
    asked = {"n": n, "tokens": list(tokens), "target": config.target, "seed": config.seed}
    made: dict[str, Any] = {"corpus": corpus.fingerprint, **asked}
    made["models"] = {name: _weights(path) for name, path in models.items()}
    if (folder / MADE).is_file():
        if json.loads((folder / MADE).read_text()) != made:
            raise MgenError(f"{folder}: holds what other models or options played; choose another --out")
        return
    if folder.exists() and any(folder.iterdir()):
        raise MgenError(f"{folder}: not empty, and not finished by mgen listen; remove it or choose another --out")
    rng = np.random.default_rng(config.seed)
    prompts = draw_prompts(corpus, "test", _PROMPT_TYPE, n, *tokens, config.target, rng)
    ids, remi = prompts.ids.tolist(), corpus.remi
    completions = {"real": prompts.windows[:, prompts.prompt_tokens :].tolist()}
    for name, path in models.items():
        model, own = load_policy(path)
        check_vocabulary(path, own, config.corpus, remi)
        model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        print(f"{name} continues {n} prompts ...", file=sys.stderr, flush=True)
        generator = torch.Generator(model.device).manual_seed(config.seed)
        decoding = Decoding(max_new_tokens=config.completion_tokens)
        try:
            rollout = sample(model, ids, decoding, remi.eos_id, remi.pad_id, generator)
        except ValueError as error:
            raise MgenError(f"{name}: {error}; ask for less --completion_tokens") from error
        completions[name] = rollout.lists()[0]
    named = [
        SamplePrompt(f"{_PROMPT_TYPE}/{i:04d}", _PROMPT_TYPE, work, ids[i])
        for i, work in enumerate(prompts.work.tolist())
    ]
    write_samples(folder, config.target, named, completions, remi)
    (folder / MADE).write_text(json.dumps(made, indent=1))  # last: what lacks it was cut off


def make_study(
    recordings: Sequence[Recording], vocabulary: tuple[str, ...] | None, config: ListenConfig
) -> tuple[Study, list[tuple[Recording, Recording]]]:
    """The pairs that are asked about, and their recordings; every file of them was read once."""
    drawn = draw_pairs(recordings, config.pairs, config.seed)
    used = sorted({i for pair in drawn for i in pair})
    for i in used:
        score_of(recordings[i])
    place = {i: at for at, i in enumerate(used)}
    study = Study(
        " ".join(config.question.split()),
        config.seconds,
        config.seed,
        tuple(dict.fromkeys(recordings[i].take.player for i in used)),
        tuple(recordings[i].take for i in used),
        tuple((place[first], place[second]) for first, second in drawn),
        vocabulary,
    )
    return study, [(recordings[first], recordings[second]) for first, second in drawn]


def bind(host: str, port: int) -> socket.socket:
    """A socket that will listen there.

    Raises:
        MgenError: The port is taken or forbidden, or the host is none of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise MgenError(f"--host {host}: no address of this machine ({error}); try 127.0.0.1") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise MgenError(
            f"--port {port}: cannot listen on {host} ({error.strerror}); choose another --port, or 0 for any"
        ) from error
    return listener


def serve(store: Store, sounds: Sounds, listener: socket.socket, config: ListenConfig) -> None:
    """Serve until Ctrl-C."""
    import uvicorn

    from mgen.listen.server import Server

    address, port = listener.getsockname()[:2]
    local = ipaddress.ip_address(address.partition("%")[0]).is_loopback
    token = config.token or ("" if local else secrets.token_urlsafe(16))
    everywhere = ipaddress.ip_address(address.partition("%")[0]).is_unspecified
    names = {*LOOPBACK, address, config.host, *config.names}
    if not local:
        names |= {socket.gethostname(), socket.getfqdn(), f"{socket.gethostname()}.local"}
    server = Server(
        store, sounds, token, {name.lower() for name in names}, any_address=everywhere, cookie=f"mgen_listen_{port}"
    )
    shown = socket.gethostname() if everywhere else address
    place = f"[{shown}]" if ":" in shown else shown
    counts = store.counts()
    begun = f" ({counts['votes']} votes of {counts['raters']} raters so far)" if counts["raters"] else ""
    print(f"{counts['pairs']} pairs of {', '.join(store.players)}; votes go to {store.path}{begun}")
    print(f"listen on  http://{place}:{port}/{f'#token={quote(token)}' if token else ''}")
    if token:
        print(f"token      {token}")
    print("Ctrl-C ends; every vote is kept.", flush=True)
    logging.getLogger("uvicorn.error").addFilter(lambda record: "Invalid HTTP request" not in record.getMessage())
    settings = uvicorn.Config(
        server.app,
        http="h11",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
        limit_concurrency=256,
    )
    try:
        uvicorn.Server(settings).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn has closed everything and passes it on
        return


def _model_folder(folder: Path) -> Path | None:
    return next((path for path in (folder / "model", folder) if (path / "config.json").is_file()), None)


def _vocabulary(folder: Path) -> tuple[str, ...] | None:
    from mgen.encoding.remi import Remi

    for path in (folder / TOKENIZER, folder / "samples" / TOKENIZER):
        if path.is_dir():
            return tuple(Remi.from_pretrained(path).names)
    return None


def _weights(model: Path) -> str:
    """A hash of a model's weights."""
    total = hashlib.sha256()
    for path in sorted(model.glob("*.safetensors")):
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
