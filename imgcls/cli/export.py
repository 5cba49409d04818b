"""`export`: a model in a file for elsewhere, with the proof that it answers the same."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from imgcls.cli import show
from imgcls.export.formats import FORMATS, known


def export(
    run: show.RunName,
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")] = "onnx",
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="By default the run's id, here.")
    ] = None,
    kit: Annotated[
        bool, typer.Option("--kit", help="Also a zip with code and proof for where imgcls is not.")
    ] = False,
    json: show.Json = False,
) -> None:
    """Write a model with its preprocessing inside, and prove that the file answers the same.

    A fresh process loads the file by its own runtime and answers real images; where its answers
    differ from PyTorch's beyond the tolerance, no file is left.
    """
    from imgcls.export import certified

    found, chosen = show.find_run(run), known(format)
    path = output or Path(f"{found.id}{chosen.suffix}")
    certificate = certified.export(found, format, path, datetime.now(), show.note)
    packed = path.with_name(f"{path.name}.zip") if kit else None
    if packed:
        from imgcls.export.kit import pack

        pack(found, path, packed)
    if json:
        kept = {"kit": str(packed)} if packed else {}
        show.as_json({"file": str(path), "certificate": certificate, **kept})
        return
    print(f"{path}, {certificate['bytes'] / 2**20:.2f} MB, and beside it its certificate:\n")
    show.table(["proved by", certificate["source"]], certified.rows(certificate))
    if packed:
        print(f"\nThe deploy kit: {packed}")
    if "load" in certificate:
        print(f"\n{certificate['load']}")
