"""Which instruments play in music files; see `mgen.cli.instruments`."""

from mgen.cli.instruments import main
from mgen.cli.main import run

if __name__ == "__main__":
    raise SystemExit(run(main))
