"""Policy gradient against rewards and critics; see `mgen.cli.finetune`."""

from mgen.cli.finetune import main
from mgen.cli.main import run

if __name__ == "__main__":
    raise SystemExit(run(main))
