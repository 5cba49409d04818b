"""Thirty ways in which a run directory can be broken, each a function of the directory."""

import json
from collections.abc import Callable
from pathlib import Path

from imgcls import events
from tests.pages.recorded import step


def _text(name: str, text: str) -> Callable[[Path], None]:
    return lambda path: (path / name).write_text(text)


def _bytes(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda path: (path / name).write_bytes(data)


def _gone(name: str) -> Callable[[Path], None]:
    return lambda path: (path / name).unlink()


def _folder(name: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        (path / name).unlink(missing_ok=True)
        (path / name).mkdir()

    return change


def _setting(**values: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        facts = json.loads((path / "config.json").read_text())
        facts["settings"].update(values)
        (path / "config.json").write_text(json.dumps(facts))

    return change


def _line(**values: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        said = json.loads(events.to_line(step(30, 3)))
        said.update(values)
        with open(path / "events.jsonl", "a") as file:
            file.write(json.dumps(said) + "\n")

    return change


def _torn(name: str, share: float) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        data = (path / name).read_bytes()
        (path / name).write_bytes(data[: int(len(data) * share)])

    return change


def _empty(path: Path) -> None:
    for file in path.iterdir():
        file.unlink()


BREAKS: dict[str, Callable[[Path], None]] = {
    "nothing in it": _empty,
    "config gone": _gone("config.json"),
    "config empty": _text("config.json", ""),
    "config torn": _torn("config.json", 0.5),
    "config binary": _bytes("config.json", bytes(range(256))),
    "config a list": _text("config.json", "[]"),
    "config null": _text("config.json", "null"),
    "config without settings": _text("config.json", "{}"),
    "config settings a list": _text("config.json", '{"settings": []}'),
    "config nested deep": _text("config.json", "[" * 100_000),
    "config a folder": _folder("config.json"),
    "unknown setting": _setting(sorcery=1),
    "setting out of limits": _setting(epochs=-1),
    "setting of a wrong kind": _setting(epochs="ten"),
    "unknown recipe": _setting(recipe="<b>*x*</b>"),
    "unknown data set": _setting(dataset="../../etc"),
    "events gone": _gone("events.jsonl"),
    "events empty": _text("events.jsonl", ""),
    "events torn": _torn("events.jsonl", 0.6),
    "events binary": _bytes("events.jsonl", bytes(range(256)) * 4),
    "events a folder": _folder("events.jsonl"),
    "events nested deep": _text("events.jsonl", "[" * 100_000 + "\n"),
    "event of an unknown kind": _line(event="sorcery"),
    "event with text for a number": _line(loss="low", seconds="long"),
    "event with null for a number": _line(step=None, lr=None),
    "event with a list for a number": _line(epoch=[1]),
    "event with infinity": _line(loss=float("inf"), images_per_second=float("nan")),
    "event with a huge number": _line(seconds=1e308, step=10**30),
    "end in an unknown state": _text(
        "events.jsonl", '{"event": "ended", "time": 1, "state": "odd", "step": 1, "reason": ""}\n'
    ),
    "log a folder": _folder("log.txt"),
    "lock a folder": _folder("lock"),
    "model of no bytes": _text("model.safetensors", ""),
}
