"""Run the recipe `demo` on the embedded corpus, in minutes; with --quick, only make a small policy, in about one.

mgen demo --out runs/demo
mgen demo --quick
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mgen.cli.generate import summary
from mgen.cli.options import parse
from mgen.cli.recipe import run_pipeline, run_step
from mgen.corpus.demo import write_demo_corpus
from mgen.files import free_folder
from mgen.options import option
from mgen.workflows.generate import DEMO, DEMO_STYLE, GenerateConfig, run_generate

WORKS, QUICK_WORKS = 80, 24
QUICK_STEPS = 120
QUICK = "quick"  # folder of all that --quick writes, inside that of the demo
QUICK_PIECES, QUICK_BARS = 3, 12


@dataclass
class DemoConfig:
    """Options of `mgen demo`."""

    out: str = option(str(DEMO), "Folder for the music, the runs and report.html.")
    works: int = option(0, f"Pieces composed in each collection; 0: {WORKS}, with --quick {QUICK_WORKS}.", least=0)
    seed: int = option(0, "Of the composer.")
    quick: bool = option(False, "Make a small policy and let it write, in about a minute; no critic, no report.")


def main(argv: Sequence[str] | None = None) -> int:
    """Compose the corpus, then run the recipe; returns the exit code."""
    (config,) = parse(argv, DemoConfig, doc=__doc__)
    out = Path(config.out) / QUICK if config.quick else Path(config.out)
    metadata = out / "music" / "metadata.csv"
    if not metadata.is_file():
        metadata = write_demo_corpus(
            out / "music", config.works or (QUICK_WORKS if config.quick else WORKS), config.seed
        )
    if config.quick:
        return run_quick(metadata, out)
    return run_pipeline("demo", ["--metadata", str(metadata)], out, target=DEMO_STYLE)


def run_quick(metadata: Path, out: Path) -> int:
    """Prepares the music, trains a small policy on it for a short time, and lets it write some pieces."""
    corpus, base = str(out / "corpus"), str(out / "base")
    if not (out / "corpus" / "corpus.json").is_file():
        run_step("prepare", "demo", ["--metadata", str(metadata), "--out", corpus, "--resume", "true"])
    steps = str(QUICK_STEPS)
    run_step("pretrain", "demo", ["--corpus", corpus, "--out", base, "--max_steps", steps, "--eval_steps", steps])
    folder = str(free_folder(str(out / "pieces")))
    options = GenerateConfig(
        model=f"{base}/model", out=folder, n=QUICK_PIECES, style=DEMO_STYLE, bars=QUICK_BARS, ending=True
    )
    print("\n".join(summary(run_generate(options))))
    again = "mgen generate" if out.parent == DEMO else f"mgen generate --model {base}/model --style {DEMO_STYLE}"
    print(
        f"{folder}: {QUICK_PIECES} pieces to listen to; next: {again} --play, or mgen demo for the whole loop with RL"
    )
    return 0
