"""Train on preference pairs; see `mgen.cli.prefer`."""

from mgen.cli.main import run
from mgen.cli.prefer import main

if __name__ == "__main__":
    raise SystemExit(run(main))
