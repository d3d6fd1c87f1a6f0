"""Writes a model repository to a folder: weights, tokenizers, model card, results, samples. Uploads nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import yaml
from transformers import GenerationConfig

from mgen.encoding.remi import MIDITOK_FILE
from mgen.errors import MgenError
from mgen.hub.evaluation_results import write_eval_results
from mgen.hub.model_card import RELIABILITY, RepositoryContents, write_model_card
from mgen.hub.private import check_private, redact
from mgen.hub.published_samples import FALLBACK_CONTEXT, write_samples
from mgen.hub.trained_run import CRITIC_FILE, POLICY, TrainedRun
from mgen.stored import explain_damage, reason

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
COPIED = (
    *("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"),
    *(MIDITOK_FILE, CRITIC_FILE),
)
"""Files of RUN/model that are copied as they are, if present; no other file of a run is published without redaction."""

TRAINING = "training"
EVALUATION = "evaluation"


def write_repository(out: Path, contents: RepositoryContents) -> list[str]:
    """Writes the folder `out`: to a temporary folder, checked for private data, then renamed into place.

    Returns:
        Its files, relative to it.

    Raises:
        MgenError: `out` is not empty, cannot be written, the run's files are damaged, or a file contains a private
            path or a token.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MgenError(f"{out}: not empty; choose another folder")
    run, samples = contents.run, contents.samples
    partial = out.with_name(f"{out.name}.part")
    try:
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        _copy_model(run, partial)
        _write_training(run, partial)
        _write_results(contents, partial)
        files = write_samples(partial, samples, run.vocabulary) if samples else {}
        write_model_card(partial / "README.md", contents, files)
        check_private(partial, contents.private_paths)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except OSError as error:
        raise MgenError(f"{out}: cannot be written ({error.strerror or error}); choose another folder") from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        problem = f"run.json, a card or metrics.json holds something else than expected ({reason(error)})"
        raise MgenError(f"{run.folder}: {problem}; train or evaluate again") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())


def generation_config(run: TrainedRun) -> GenerationConfig:
    """Sampling at temperature 1 without truncation, as the model was trained and evaluated.

    By default `generate` would use top-k 50 and no cache.
    """
    remi = run.vocabulary
    return GenerationConfig(
        bos_token_id=remi.bos_id,
        eos_token_id=remi.eos_id,
        pad_token_id=remi.pad_id,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_length=run.context or FALLBACK_CONTEXT,
        use_cache=True,
    )


def _copy_model(run: TrainedRun, folder: Path) -> None:
    for pattern in WEIGHTS:
        for path in run.model.glob(pattern):
            shutil.copyfile(path, folder / path.name)
    for name in COPIED:
        if (run.model / name).is_file():
            shutil.copyfile(run.model / name, folder / name)
    if run.kind == POLICY:
        generation_config(run).save_pretrained(folder)


def _write_training(run: TrainedRun, folder: Path) -> None:
    place = folder / TRAINING
    place.mkdir()
    (place / "config.yaml").write_text(yaml.safe_dump(redact(run.options), sort_keys=True))
    (place / "run.json").write_text(json.dumps(redact(run.facts), indent=1))
    log = run.folder / "metrics.jsonl"
    if log.is_file():
        with explain_damage(log, "remove the damaged line"):
            entries = [json.loads(line) for line in log.read_text("utf-8").splitlines() if line.strip()]
        (place / "metrics.jsonl").write_text("".join(f"{json.dumps(redact(entry))}\n" for entry in entries))


def _write_results(contents: RepositoryContents, folder: Path) -> None:
    results, publisher = contents.results, contents.publisher
    content = results.content if results else contents.run.card
    if content:
        (folder / EVALUATION).mkdir()
        name = "metrics.json" if results else "card.json"
        (folder / EVALUATION / name).write_text(json.dumps(redact(content), indent=1))
        diagram = contents.run.folder / RELIABILITY.name
        if diagram.is_file() and not results:
            shutil.copyfile(diagram, folder / RELIABILITY)
    about = results.provenance() if results else ""
    write_eval_results(folder, contents.numbers(), publisher.eval_dataset, publisher.url, about)
