import subprocess
import sys

import pytest

from mgen.errors import MgenError
from mgen.extras import import_extra, is_installed

EXTRAS = (
    "fluidsynth",
    "guitarpro",
    "music21",
    "muspy",
    "ray",
    "starlette",
    "tensorboard",
    "trackio",
    "uvicorn",
    "wandb",
)

WITHOUT_EXTRAS = f"""
import sys

for name in {EXTRAS}:
    sys.modules[name] = None  # an import of it raises ModuleNotFoundError

import mgen
from pathlib import Path
from mgen.cli.main import run
from mgen.cli import finetune, insight, listen, prepare, pretrain
from mgen.corpus.demo import write_demo_corpus
from mgen.runs.tracking import TrackingOptions
from typer.testing import CliRunner
from mgen.cli.main import app

folder = Path(sys.argv[1])
assert CliRunner().invoke(app, ["--help"]).exit_code == 0
metadata = write_demo_corpus(folder / "music", works_per_collection=4)
corpus = str(folder / "corpus")
assert run(prepare.main, ["--metadata", str(metadata), "--out", corpus, "--workers", "1"]) == 0
assert TrackingOptions().report_to == []
step = ["--corpus", corpus, "--size", "tiny", "--context", "256", "--max_steps", "1", "--use_cpu", "true"]
assert run(pretrain.main, [*step, "--out", str(folder / "run"), "--report_to", "none"]) == 0

tab = folder / "solo.gp5"
tab.write_bytes(b"\\x18FICHIER GUITAR PRO v5.10")
assert run(prepare.main, [str(tab), "--out", str(folder / "tabs")]) == 2
assert run(listen.main, [str(folder / "run")]) == 2
assert run(prepare.main, ["--metadata", str(metadata), "--out", str(folder / "ray"), "--engine", "ray"]) == 2
assert run(pretrain.main, [*step, "--out", str(folder / "run2"), "--report_to", "tensorboard"]) == 2
"""


@pytest.mark.slow
def test_what_needs_no_extra_runs_without_them_and_the_rest_says_which_to_install(tmp_path):
    done = subprocess.run([sys.executable, "-c", WITHOUT_EXTRAS, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("mgen: ")]
    assert len(errors) == 4, done.stderr
    for line, extra in zip(errors, ("tabs", "listen", "ray", "tensorboard"), strict=True):
        assert f"pip install 'mgen-music[{extra}]'" in line


def test_an_installed_module_is_returned_and_a_missing_one_names_its_extra():
    assert import_extra("json.decoder", "listen", "mgen listen").JSONDecoder
    with pytest.raises(MgenError, match=r"^--engine x: no_such is not installed; .* 'mgen-music\[y\]', or wait$"):
        import_extra("no_such.module", "y", "--engine x", "wait")
    assert is_installed("json")
    assert not is_installed("no_such")
