"""Serves a blind listening study: pairs of clips, and votes on which is better.

    mgen listen runs/evaluation
    mgen listen runs/base runs/finetune --corpus corpus --pairs 40

A RUN is an evaluation's folder, a folder of MIDI files, or a trained run: models complete prompts of the test split of
--corpus, next to the real continuations. The systems stay hidden until `mgen votes` reads the votes. The page is served
on this machine only; with another --host it requires a token.
"""

from __future__ import annotations

from collections.abc import Sequence

from mgen.cli.options import parse
from mgen.cli.progress import ProgressDisplay
from mgen.extras import import_extra
from mgen.listen.serve import ServeConfig, bind, serve
from mgen.workflows.listen import ListenConfig, open_study


def main(argv: Sequence[str] | None = None) -> int:
    """Serves the page until Ctrl-C; returns the exit code."""
    arguments = {"runs": {"nargs": "+", "metavar": "RUN", "help": "RUN or NAME=RUN: evaluation, MIDI folder or run"}}
    config, server, words = parse(argv, ListenConfig, ServeConfig, doc=__doc__, arguments=arguments)
    for module in ("starlette", "uvicorn"):
        import_extra(module, "listen", "mgen listen")
    with bind(server.host, server.port) as listener:  # first: a busy port is an error before the work
        with ProgressDisplay() as progress:
            study = open_study(words.runs, progress, **vars(config))
        try:
            serve(study.store, study.audio, listener, server, lambda line: print(line, flush=True))
        finally:
            counts = study.store.counts()
            study.close()
    votes = f"{counts['votes']} votes of {counts['raters']} raters"
    print(f"\n{config.out}: {votes}; see them with: mgen votes {config.out}")
    return 0
