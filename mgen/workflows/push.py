"""`mgen.push`: writes the model repository of a finished run, and uploads it to the Hugging Face Hub."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mgen.errors import MgenError
from mgen.hub.evaluation_results import EvaluationResults
from mgen.hub.licences import closest_license, slug
from mgen.hub.model_card import PublisherInfo, RepositoryContents
from mgen.hub.published_samples import PublishedSamples, from_evaluation, from_model
from mgen.hub.repository import write_repository
from mgen.hub.trained_run import POLICY, TrainedRun
from mgen.hub.upload import check_repo, endpoint, upload_folder
from mgen.options import from_keywords, option
from mgen.sampling.samples import read_samples
from mgen.stored import explain_damage

FOLDER = "hub"  # folder below RUN that is uploaded
PLACEHOLDER_USER = "your-name"  # user in a model card written without REPO


@dataclass
class PushConfig:
    """Options of `mgen push`."""

    evaluation: str = option("", "Folder of mgen evaluate with this model in it: its numbers and samples.")
    name: str = option("", "Row of the evaluation that is this model; the run's name by default.")
    license: str = option("", "Licence of the weights, an identifier of the Hub.")
    license_link: str = option("", "Address of the text of that licence.")
    data_license: str = option("", "Licence of the music, in words.")
    datasets: list[str] = option([], "Hub ids of the training data sets.")
    base_model: str = option("", "Hub id of the model that it was fine-tuned from.")
    eval_dataset: str = option(
        "", "Hub id of the data set that results are reported for; USER/mgen-CORPUS_HASH by default."
    )
    corpus: str = option("", "The training corpus, if it has moved since.")
    samples: int = option(3, "Prompts whose completions are published; 0 for none.", least=0)
    private: bool = option(False, "Make a new repository private.")
    revision: str = option("", "Branch; main by default.")
    message: str = option("", "Commit message.")
    dry_run: str = option("", "Write the folder DIR, new or empty, and upload nothing.")

    def __post_init__(self) -> None:
        for name, ids in (
            ("datasets", self.datasets),
            ("base_model", [self.base_model]),
            ("eval_dataset", [self.eval_dataset]),
        ):
            for id_ in filter(None, ids):
                if id_.count("/") > 1 or id_.startswith(("/", ".", "~")):
                    raise ValueError(f"{name} '{id_}': expected a Hub id, such as user/name")


@dataclass(frozen=True)
class PushResult:
    """A written, and perhaps uploaded, repository.

    Attributes:
        folder: of its files.
        files: paths relative to it.
        bytes: total size.
        repo: `user/name`.
        url, commit: addresses on the Hub; empty if nothing was uploaded.
        remarks: what the publisher may want to add, in sentences.
    """

    folder: Path
    files: list[str]
    bytes: int
    repo: str
    url: str = ""
    commit: str = ""
    remarks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        facts = asdict(self) | {"folder": str(self.folder)}
        del facts["remarks"]
        return facts


def push(run: Path | str, repo: str = "", **options: Any) -> PushResult:
    """Publishes a trained run: weights, tokenizers, a model card with its evaluation, and generated samples.

    No music of the corpus, no local path and no token is published; a licence is never guessed.

    Args:
        run: folder of a finished training run.
        repo: `user/name` on the Hub; may be empty with `dry_run`.
        options: fields of `PushConfig`.

    Raises:
        MgenError: The run, the evaluation or an option is invalid, or the upload failed; the folder is complete then.
    """
    config = from_keywords(PushConfig, "push", options)
    if not repo and not config.dry_run:
        raise MgenError("mgen push: expected REPO (user/name) after RUN, got none; see --help")
    if repo:
        check_repo(repo)
    with explain_damage(run, "its files or those of the evaluation are damaged: train or evaluate again"):
        contents = _contents(Path(run), repo, config)
    trained = contents.run
    out = Path(config.dry_run) if config.dry_run else trained.folder / FOLDER
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise MgenError(f"{out}: expected a folder or nothing, found a link or a file; remove it")
    if not config.dry_run and out.exists():
        shutil.rmtree(out)  # of the push before
    files = write_repository(out, contents)
    size = sum((out / name).stat().st_size for name in files)
    url = commit = ""
    if not config.dry_run:
        message = config.message or f"{trained.name}: mgen {trained.command}"
        url, commit = upload_folder(out, repo, message, config.private, config.revision)
    return PushResult(out, files, size, contents.publisher.repo, url, commit, _remarks(contents))


def _contents(run: Path, repo: str, config: PushConfig) -> RepositoryContents:
    """Reads and checks everything that the repository is made of, before anything is written."""
    trained = TrainedRun.read(run)
    repo = repo or f"{PLACEHOLDER_USER}/{slug(trained.name)}"
    results = None
    if config.evaluation:
        if trained.kind != POLICY:
            raise MgenError(
                f"--evaluation: {run} is a {trained.kind}, evaluated by its own card; leave --evaluation out"
            )
        results = EvaluationResults.read(config.evaluation, config.name or trained.name)
    data = results.protocol.get("data") if results else trained.facts.get("data")
    publisher = PublisherInfo(
        repo=repo,
        license=config.license,
        license_link=config.license_link,
        data_license=config.data_license,
        datasets=tuple(config.datasets),
        base_model=config.base_model,
        eval_dataset=config.eval_dataset or f"{repo.partition('/')[0]}/mgen-{data or 'evaluation'}",
        endpoint=endpoint(),
        revision=config.revision or "main",
    )
    corpus = trained.corpus(config.corpus) or _evaluated_corpus(results, trained)
    samples = _samples(trained, results, config)
    return RepositoryContents(trained, publisher, corpus, results, samples, _private_paths(run, config))


def _evaluated_corpus(results: EvaluationResults | None, trained: TrainedRun) -> dict[str, Any]:
    """The evaluation's record of the corpus, if it is the training corpus."""
    corpus = dict(results.content.get("corpus") or {}) if results else {}
    return corpus if corpus.get("fingerprint") == trained.facts.get("data") else {}


def _samples(trained: TrainedRun, results: EvaluationResults | None, config: PushConfig) -> PublishedSamples | None:
    if trained.kind != POLICY or not config.samples:
        return None
    if results and (Path(config.evaluation) / "samples" / "index.json").is_file():
        evaluated = read_samples(config.evaluation)
        samples = from_evaluation(evaluated, results.name, results.pretrained, config.samples)
        if samples:
            return samples
    return from_model(trained.model, trained.style, config.samples)


def _private_paths(run: Path, config: PushConfig) -> dict[str, str]:
    """Local folders that no published file may name."""
    paths = {
        str(Path.home()): "your home folder",
        str(Path.cwd()): "the working folder",
        tempfile.gettempdir(): "the folder for temporary files",
    }
    inputs = {"RUN": str(run), "--evaluation": config.evaluation, "--corpus": config.corpus}
    return paths | {str(Path(path).resolve()): f"the folder of {name}" for name, path in inputs.items() if path}


def _remarks(contents: RepositoryContents) -> tuple[str, ...]:
    publisher, remarks = contents.publisher, []
    similar = closest_license(publisher.license)
    if similar:
        remarks.append(
            f"--license {publisher.license}: not an identifier of the Hub; written as 'other'. Did you mean {similar}?"
        )
    elif not publisher.license:
        remarks.append("no licence was stated: nobody may use the weights without asking; --license states one")
    if contents.results is None and contents.run.kind == POLICY:
        remarks.append("the card has no numbers: --evaluation DIR adds those of mgen evaluate")
    if publisher.repo.startswith(f"{PLACEHOLDER_USER}/"):
        remarks.append(f"the card calls it {publisher.repo}: give REPO for its real name")
    return tuple(remarks)
