"""Simple predictors next to systems that are not trained; see `mgen.cli.baseline`."""

from mgen.cli.baseline import main
from mgen.cli.main import run

if __name__ == "__main__":
    raise SystemExit(run(main))
