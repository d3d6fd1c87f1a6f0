"""A page about a corpus; see `mgen.cli.insight`."""

from mgen.cli.insight import main
from mgen.cli.main import run

if __name__ == "__main__":
    raise SystemExit(run(main))
