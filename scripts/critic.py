"""Train and calibrate a style critic; see `mgen.cli.critic`."""

from mgen.cli.critic import main
from mgen.cli.main import run

if __name__ == "__main__":
    raise SystemExit(run(main))
