"""Prints the lower bounds in pyproject.toml as constraints; tools (`dev`, `docs`) are left at their newest."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = [lines for extra, lines in project["optional-dependencies"].items() if extra not in ("dev", "docs")]
for requirement in sum(extras, project["dependencies"]):
    print(re.sub(">=", "==", requirement))
