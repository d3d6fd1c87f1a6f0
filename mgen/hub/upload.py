"""Uploads a folder to the Hub as one commit, and explains a failure in one line.

All requests go through `huggingface_hub`. The folder is only read, so that a failed upload can be repeated.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, RevisionNotFoundError
from huggingface_hub.utils import logging as hub_logging
from huggingface_hub.utils._validators import validate_repo_id
from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

from mgen.errors import MgenError
from mgen.hub.evaluation_results import FILE_PREFIX
from mgen.hub.evaluation_results import FOLDER as RESULTS_FOLDER

TRANSPORT = next(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception))
"""Base error of the client's HTTP library, raised when no answer arrives."""

STALE = (
    *("samples/*", "training/*", "evaluation/*", f"{RESULTS_FOLDER}/{FILE_PREFIX}*", "*.safetensors"),
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "miditok.json"),
    "critic.json",
)
"""Files of an earlier push, deleted in the same commit unless written again: an old config.json next to a feature
critic would be loaded by stock classes.
"""


def check_repo(repo: str) -> None:
    """Raises unless `repo` is a valid `user/name` of the Hub."""
    if repo.count("/") != 1:
        raise MgenError(f"REPO '{repo}': expected user/name, such as ada/music-model")
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise MgenError(f"REPO '{repo}': {_first_line(error)}; choose another name") from error


def endpoint() -> str:
    """Address of the Hub: HF_ENDPOINT, or huggingface.co."""
    return constants.ENDPOINT


def upload_folder(
    folder: Path,
    repo: str,
    message: str,
    private: bool = False,
    revision: str = "",
    endpoint: str | None = None,
    token: str | None = None,
) -> tuple[str, str]:
    """Uploads everything in a folder as one commit, creating the repository if needed.

    Files of the repository that are not in the folder stay, except those matched by `STALE`.

    Args:
        private: whether a newly created repository is private; an existing one keeps its visibility.
        revision: branch, created if needed; empty for main.
        endpoint: address of the Hub; by default HF_ENDPOINT or huggingface.co.
        token: by default HF_TOKEN or the one stored by `hf auth login`.

    Returns:
        Addresses of the repository and of the commit.

    Raises:
        MgenError: No token, a token without the right to write, no connection, or an interrupted upload. The folder is
            unchanged.
    """
    check_repo(repo)
    token = token or get_token()
    if not token:
        raise MgenError("the Hub needs a token that may write: run hf auth login, or set HF_TOKEN")
    api = HfApi(endpoint=endpoint, token=token, library_name="mgen")
    with _explain_errors(repo, folder), _quiet_client():
        url = api.create_repo(repo, private=private or None, exist_ok=True)
        if revision and revision != constants.DEFAULT_REVISION:
            api.create_branch(repo, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            commit_message=message,
            revision=revision or None,
            delete_patterns=list(STALE),
        )
    return str(url), str(commit.commit_url)


@contextmanager
def _explain_errors(repo: str, folder: Path) -> Iterator[None]:
    """Turns the client's errors into one line."""
    again = f"{folder} is complete: give the command again"
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise MgenError(f"{repo}: not pushed, HF_HUB_OFFLINE is set; unset it, {again}") from error
    except (TRANSPORT, ValueError, RuntimeError, OSError) as error:
        raise MgenError(f"{repo}: {_reason(_root(error), repo)}; {again}") from error


def _reason(error: BaseException, repo: str) -> str:
    """Explains a failure, without addresses that may hold a token."""
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    user = repo.partition("/")[0]
    if isinstance(error, RevisionNotFoundError):
        return "the branch does not exist on the Hub"
    if status == 401:
        return "the Hub refused the token (401); run hf auth login with a valid one, or set HF_TOKEN"
    if status == 403:
        return f"the token has no right to write there (403); use one that may write to {user}, or another REPO"
    if status == 404:
        return f"not found on the Hub (404); check the name, and that the token may see {user}"
    if status == 429:
        return "the Hub asks to wait (429)"
    if status is not None:
        return f"the Hub answered {status} ({_first_line(error)})"
    if isinstance(error, ValueError):
        return f"refused ({_first_line(error)})"
    return f"the upload was interrupted ({type(error).__name__}: {_first_line(error)})"


def _root(error: BaseException) -> BaseException:
    """Returns the cause under the client's wrappers: for an upload, the server's answer."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _first_line(error: BaseException) -> str:
    message = getattr(error, "server_message", None) or str(error)
    lines = [line.strip(" -") for line in str(message).splitlines() if line.strip(" -")]
    return " ".join(lines[:2])[:200] or "no reason given"


@contextmanager
def _quiet_client() -> Iterator[None]:
    """Silences the client's log; progress bars only on a terminal."""
    before = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.ERROR)
    bars = os.isatty(2)
    if not bars:
        disable_progress_bars()
    try:
        yield
    finally:
        hub_logging.set_verbosity(before)
        if not bars:
            enable_progress_bars()
