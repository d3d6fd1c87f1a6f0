"""Next-token training of a policy; see `mgen.cli.pretrain`."""

from mgen.cli.main import run
from mgen.cli.pretrain import main

if __name__ == "__main__":
    raise SystemExit(run(main))
