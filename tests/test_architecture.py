"""Who may import whom, read from the source with `ast`; see docs/architecture.md."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the ground up: a room imports from itself and from rooms before it.
ROOMS = (
    "errors", "files", "config", "events", "card", "data.catalog", "runs", "answers", "jobs",
    "charts", "recipes", "studies", "preprocess", "trust", "data", "models", "muon", "optim",
    "machine", "team", "averaging", "doctor", "board", "train", "sitting", "budget", "finder",
    "evaluate", "worker", "deployed", "predict", "export", "serve", "batch", "feedback", "taught",
    "cli", "ui", "pages",
)  # fmt: skip
PLACES = {"__main__": "cli"}  # a module that stands in a room of another name

WITHOUT_TORCH = (
    "imgcls.errors", "imgcls.config", "imgcls.events", "imgcls.runs", "imgcls.answers",
    "imgcls.jobs", "imgcls.charts", "imgcls.recipes", "imgcls.studies", "imgcls.preprocess",
    "imgcls.data.catalog", "imgcls.card", "imgcls.cli", "imgcls.doctor", "imgcls.trust",
)  # fmt: skip
BRINGS_TORCH = ("torch", "torchvision", "safetensors.torch", "captum")
STARTS_SOMETHING = (
    "asyncio", "logging", "multiprocessing", "os", "shutil", "signal", "socket", "subprocess",
    "threading", "urllib", "warnings",
)  # fmt: skip


@dataclass(frozen=True)
class Import:
    """One name that a file imports, absolute and dotted."""

    name: str
    line: int
    at_import: bool  # runs when the module is imported, not when one of its functions is called


@cache
def modules() -> dict[str, Path]:
    """Every module of the package, the pages and the entry, by dotted name."""
    files = sorted((ROOT / "imgcls").rglob("*.py"))
    files += [*sorted((ROOT / "pages").glob("*.py")), ROOT / "streamlit_app.py"]
    return {module_name(file): file for file in files if file.exists()}


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(name: str) -> tuple[Import, ...]:
    """What the module imports; a name taken from a package of ours counts as the module it is."""
    file = modules()[name]
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    found: list[Import] = []

    def add(target: str, node: ast.AST, at_import: bool) -> None:
        found.append(Import(target, getattr(node, "lineno", 0), at_import))

    def visit(node: ast.AST, at_import: bool) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                add(alias.name, node, at_import)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            source = ".".join(filter(None, (above, node.module)))
            for alias in node.names:
                member = f"{source}.{alias.name}"
                ours = source.startswith("imgcls") and member not in modules()
                add(source if ours else member, node, at_import)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            at_import = False
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                visit(child, False)
            for child in node.orelse:
                visit(child, at_import)
            return
        for child in ast.iter_child_nodes(node):
            visit(child, at_import)

    visit(ast.parse(file.read_text(encoding="utf-8"), str(file)), True)
    return tuple(found)


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def paths_to_torch(name: str) -> Iterator[str]:
    """Each way in which importing the module imports torch, as `a → b → torch`."""
    seen: set[str] = set()

    def walk(module: str, way: tuple[str, ...]) -> Iterator[str]:
        parts = module.split(".")
        for i in range(1, len(parts) + 1):  # importing a.b runs a/__init__.py too
            step = ".".join(parts[:i])
            if step not in modules() or step in seen:
                continue
            seen.add(step)
            for found in imports(step):
                if not found.at_import:
                    continue
                if within(found.name, *BRINGS_TORCH):
                    yield " → ".join((*way, step, found.name))
                elif found.name.startswith("imgcls"):
                    yield from walk(found.name, (*way, step))

    yield from walk(name, ())


def room(name: str) -> str:
    parts = name.removeprefix("imgcls.").split(".")
    own = ".".join(parts[:2]) if ".".join(parts[:2]) in ROOMS else parts[0]
    return PLACES.get(own, own)


def ours() -> list[str]:
    return [name for name in modules() if name.startswith("imgcls.")]


def shown() -> list[str]:
    """What runs inside the Streamlit process only: entry, pages, ui."""
    return [n for n in modules() if n == "streamlit_app" or within(n, "pages", "imgcls.ui")]


def test_every_module_has_its_room():
    assert [name for name in ours() if room(name) not in ROOMS] == []


@pytest.mark.parametrize("name", ours())
def test_a_module_imports_only_from_rooms_below_its_own(name):
    height = ROOMS.index(room(name))
    targets = [i for i in imports(name) if i.name.startswith("imgcls.") and i.name in modules()]

    upward = [f"line {i.line}: {i.name}" for i in targets if ROOMS.index(room(i.name)) > height]

    assert upward == []


@pytest.mark.parametrize("name", [n for n in ours() if not within(n, "imgcls.ui")])
def test_only_ui_and_pages_import_streamlit(name):
    assert [i for i in imports(name) if within(i.name, "streamlit", "imgcls.ui", "pages")] == []


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_importing_a_light_module_brings_no_torch(name):
    assert name in modules()
    assert list(paths_to_torch(name)) == []


@pytest.mark.parametrize("name", shown())
def test_pages_and_ui_name_torch_nowhere_and_bring_none(name):
    assert [i for i in imports(name) if within(i.name, *BRINGS_TORCH)] == []
    assert list(paths_to_torch(name)) == []


def test_light_modules_leave_torch_and_streamlit_unloaded():
    code = (
        f"import sys, {', '.join(WITHOUT_TORCH)}\n"
        "sys.exit(', '.join({'torch', 'torchvision', 'streamlit'} & set(sys.modules)) or 0)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_jobs_starts_the_worker_by_name():
    assert '"imgcls.worker"' in modules()["imgcls.jobs"].read_text(encoding="utf-8")
    assert [i for i in imports("imgcls.jobs") if within(i.name, "imgcls.worker")] == []


def statements(name: str) -> Iterator[ast.stmt]:
    """What the module runs when it is imported, without what stands under `if __name__ == …`."""
    for node in ast.parse(modules()[name].read_text(encoding="utf-8")).body:
        if not (isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)):
            yield node


@pytest.mark.parametrize("name", ours())
def test_importing_a_module_defines_things_and_does_nothing_else(name):
    body = list(statements(name))
    targets = [t for s in body if isinstance(s, ast.Assign) for t in s.targets]
    assigned = {t.id for t in targets if isinstance(t, ast.Name)}
    calls = [s.value for s in body if isinstance(s, ast.Expr) and isinstance(s.value, ast.Call)]

    # `app.add_typer(...)` completes what this module itself defines.
    acting = [c for c in calls if ast.unparse(c.func).split(".")[0] not in assigned]

    assert [f"line {c.lineno}: {ast.unparse(c)}" for c in acting] == []


@pytest.mark.parametrize("name", [n for n in modules() if within(n, "pages", "streamlit_app")])
def test_a_page_sets_nothing_up_for_the_whole_process(name):
    kinds = (ast.FunctionDef, ast.ClassDef)
    body = [s for s in statements(name) if not isinstance(s, kinds)]
    calls = [n for s in body for n in ast.walk(s) if isinstance(n, ast.Call)]

    acting = [c for c in calls if within(ast.unparse(c.func), *STARTS_SOMETHING)]

    assert [f"line {c.lineno}: {ast.unparse(c)}" for c in acting] == []


@pytest.mark.parametrize("name", ["imgcls", *ours()])
def test_what_is_public_says_what_it_is_for(name):
    tree = ast.parse(modules()[name].read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    public = [n for n in tree.body if isinstance(n, kinds) and not n.name.startswith("_")]

    silent = [f"{n.name}, line {n.lineno}" for n in public if not ast.get_docstring(n)]

    assert silent == []
    assert ast.get_docstring(tree) or not tree.body


def test_names_in_config_are_the_keys_of_the_registries():
    from imgcls import config, models, optim

    assert set(config.MODELS) == set(models.MODELS)
    assert set(config.OPTIMIZERS) == set(optim.OPTIMIZERS)
    assert set(config.SCHEDULES) == set(optim.SCHEDULES)
