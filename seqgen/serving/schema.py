"""Writes the OpenAPI schema, from which the types of the page are made.

python -m seqgen.serving.schema > studio/openapi.json
"""

import json
import sys
from pathlib import Path

from seqgen.serving.app import build_app
from seqgen.serving.studio import Studio


def main() -> None:
    """Write the schema to the standard output."""
    app = build_app(Studio(Path("projects"), runs=[]))
    json.dump(app.openapi(), sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
