"""Judge models against real music and write the report; see `mgen.cli.evaluate`."""

from mgen.cli.evaluate import main
from mgen.cli.main import run

if __name__ == "__main__":
    raise SystemExit(run(main))
