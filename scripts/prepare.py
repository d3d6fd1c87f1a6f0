"""Music files to a corpus of tokens; see `mgen.cli.prepare`."""

from mgen.cli.main import run
from mgen.cli.prepare import main

if __name__ == "__main__":
    raise SystemExit(run(main))
