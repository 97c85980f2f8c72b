"""Prints the requirements of one extra of pyproject.toml, one a line (so that installing it does not rebuild the engine)."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
print("\n".join(project["optional-dependencies"][sys.argv[1]]))
