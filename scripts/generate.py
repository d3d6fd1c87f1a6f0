"""Sample MIDI files from a model; see `mgen.cli.generate`."""

from mgen.cli.generate import main
from mgen.cli.main import run

if __name__ == "__main__":
    raise SystemExit(run(main))
