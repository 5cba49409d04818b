"""What `make certify` leaves to read: a table of every family in every format, and JSON lines."""

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

KEY = "certificate"


def pytest_addoption(parser):
    parser.addoption(
        "--certificates", type=Path, metavar="FILE", help="write what was found, a JSON line each"
    )


def pytest_terminal_summary(terminalreporter, config):
    reports = [report for of in terminalreporter.stats.values() for report in of]
    found = [
        value
        for report in reports
        if getattr(report, "when", "") == "call"
        for key, value in report.user_properties
        if key == KEY
    ]
    if not found:
        return
    found.sort(key=lambda one: (one["family"], one["format"]))
    if file := config.getoption("certificates"):
        file.write_text("".join(json.dumps(one) + "\n" for one in found), encoding="utf-8")
    table = Table(
        "family", "format", "|Δlogit|", "allowed", "same class", "accuracy, PyTorch", "file", "MB",
        "ms, PyTorch", "file",
        caption="Accuracy on test images, with its 95 % interval. Milliseconds for one picture.",
    )  # fmt: skip
    for one in found:
        cells = (one["refused"],) if "refused" in one else _cells(one)
        table.add_row(one["family"], one["format"], *cells)
    Console(width=None if config.get_terminal_writer().hasmarkup else 150).print("\n", table)


def _cells(one):
    accuracy, taken, allowed = one["accuracy"], one["milliseconds"], one["logit_tolerance"]
    return (
        f"{one['logit_difference']:.1g}",
        f"{allowed:.1g}" if allowed else "",
        f"{one['top1_agreement']:.1%}",
        *(f"{a['value']:.1%} ({a['low']:.1%}–{a['high']:.1%})" for a in accuracy.values()),
        f"{one['bytes'] / 1e6:.1f}",
        *(f"{t['one']:.2f}" for t in taken.values()),
    )
