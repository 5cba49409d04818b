"""The child process that computes for the pages; see `imgcls.ui.compute`. Imports no streamlit.

Started with a connection's file descriptor and a memory limit. It answers one request after
another and ends when the other side is gone.
"""

import contextlib
import os
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

from imgcls.errors import ImgclsError


def serve(connection: "Connection[Any, Any]") -> None:
    """Answer requests (function, args, wants progress, home) until the connection ends."""

    def report(done: float, total: float, text: str = "") -> None:
        connection.send(("progress", (float(done), float(total), text)))

    while True:
        try:
            function, args, wants_progress, home = connection.recv()
            if home is None:
                os.environ.pop("IMGCLS_HOME", None)
            else:
                os.environ["IMGCLS_HOME"] = home
            extra = {"progress": report} if wants_progress else {}
            connection.send(("result", function(*args, **extra)))
        except (EOFError, BrokenPipeError):
            return
        except ImgclsError as error:
            connection.send(("refused", error))
        except MemoryError:
            connection.send(("memory", None))
        except Exception as error:
            traceback.print_exc()
            connection.send(("failed", f"{type(error).__name__}: {error}"[:300]))


def limit_memory(limit: int) -> None:
    """Bound this process's address space; systems that know no such bound go without."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    if int(sys.argv[2]):
        limit_memory(int(sys.argv[2]))
    sys.stdout = sys.stderr
    with contextlib.suppress(KeyboardInterrupt):
        serve(Connection(int(sys.argv[1])))
