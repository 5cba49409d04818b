"""What schemathesis sends besides rubbish; it loads this module by SCHEMATHESIS_HOOKS."""

from pathlib import Path

import schemathesis

PICTURE = Path(__file__).parents[1] / "imgcls/assets/examples/cat.jpg"


@schemathesis.hook
def map_body(context, body):
    """Half of the files that it makes up for a request become a photograph."""
    files = body.get("files") if isinstance(body, dict) else None
    if isinstance(files, list):
        photograph = PICTURE.read_bytes()
        body["files"] = [photograph if len(file) % 2 == 0 else file for file in files]
    return body
