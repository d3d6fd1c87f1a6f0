"""GRPO as published, with the trainer of TRL; see `mgen.cli.grpo`."""

from mgen.cli.grpo import main
from mgen.cli.main import run

if __name__ == "__main__":
    raise SystemExit(run(main))
