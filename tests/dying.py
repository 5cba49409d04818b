"""What a decoding process is given in tests; imports nothing heavy, for its memory is bounded."""

import os

from imgcls.serve import decoding


def decode(task, size, fit):
    """As `decoding._decode`, but one name ends the process."""
    if "fatal.png" in dict(task):
        os._exit(1)
    return decoding._decode(task, size, fit)
