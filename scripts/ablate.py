"""A grid of fine-tuning runs; see `mgen.cli.ablate`."""

from mgen.cli.ablate import main
from mgen.cli.main import run

if __name__ == "__main__":
    raise SystemExit(run(main))
