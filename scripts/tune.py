"""A search over options; see `mgen.cli.tune`."""

from mgen.cli.main import run
from mgen.cli.tune import main

if __name__ == "__main__":
    raise SystemExit(run(main))
