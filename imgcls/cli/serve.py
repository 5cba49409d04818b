"""`serve`: a model behind HTTP."""

import ipaddress
import os
import secrets
from typing import Annotated

import typer

from imgcls.cli import show
from imgcls.errors import ConfigError


def serve(
    run: show.RunName,
    host: str = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    backend: Annotated[str, typer.Option(help="onnxruntime, or torch (which takes CUDA).")] = (
        "onnxruntime"
    ),
    batch: Annotated[
        int, typer.Option(min=1, max=1024, help="Pictures a batch at most; more suit a GPU.")
    ] = 16,
    token: Annotated[
        str, typer.Option(help="That requests must bring; or IMGCLS_TOKEN.", envvar="IMGCLS_TOKEN")
    ] = "",
) -> None:
    """Answer pictures over HTTP: POST /predict; what it takes stands under /docs.

    On another address than loopback every request needs a token; one is made where none is given.
    """
    import uvicorn

    from imgcls.serve import app, served
    from imgcls.serve.connection import UVICORN

    found = show.find_run(run)
    if not _is_loopback(host) and not token:
        token = secrets.token_urlsafe(24)
        show.note(f"Requests need the header  Authorization: Bearer {token}")
    show.note(f"Loading {found.id} for {backend}")
    cores = os.cpu_count() or 1
    # The other cores decode and talk; threads that spin would take those too.
    loaded = served.load(found, backend, threads=max(1, cores // 2), spin=False)
    limits = app.Limits(batch=batch, token=token, decoders=max(1, min(4, cores)))
    show.note(f"Serving {found.id} at http://{host}:{port}/docs; Ctrl-C ends it.")
    uvicorn.run(app.create(loaded, limits), host=host, port=port, **UVICORN)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise ConfigError(f"{host!r} is no address: give one as 127.0.0.1 or 0.0.0.0.") from None
