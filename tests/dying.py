"""What a decoding process is given in tests; imports nothing heavy, for its memory is bounded."""

import os

from imgcls.serve import decoding


def decode(data, name, size, fit):
    """As `decoding._decode`, but one name ends the process."""
    if name == "fatal.png":
        os._exit(1)
    return decoding._decode(data, name, size, fit)
