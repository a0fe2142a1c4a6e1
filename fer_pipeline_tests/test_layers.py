"""Which layer may import what, read from the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fer_pipeline

PACKAGE = Path(fer_pipeline.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
CORE = [path for path in SOURCES if path.is_relative_to(PACKAGE / "core")]
HEAVY = {"tensorflow", "keras", "torch", "jax", "cv2", "mlflow", "sklearn", "matplotlib", "ray"}

PRELOADED = {"preload.py": {"cv2"}, "preload_models.py": {"matplotlib", "mlflow", "sklearn"}}


def _imported(nodes: Iterator[ast.AST]) -> set[str]:
    """The top-level names of the packages that these statements import."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def _at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node that runs when the module is imported: not what stands in functions."""
    todo: list[ast.AST] = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
            continue
        yield node
        todo += ast.iter_child_nodes(node)


def _id(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", CORE, ids=_id)
def test_core_knows_nothing_of_orchestration_tracking_and_pages(path: Path) -> None:
    imported = _imported(ast.walk(ast.parse(path.read_text())))
    assert not imported & {"dagster", "mlflow", "streamlit"}


@pytest.mark.parametrize("path", CORE, ids=_id)
def test_core_imports_only_core_of_this_package(path: Path) -> None:
    modules = {
        node.module
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module
    }
    own = {name for name in modules if name.partition(".")[0] == "fer_pipeline"}
    assert {name for name in own if not name.startswith("fer_pipeline.core")} == set()


@pytest.mark.parametrize("path", SOURCES, ids=_id)
def test_heavy_frameworks_are_imported_in_functions_only(path: Path) -> None:
    found = _imported(_at_import(ast.parse(path.read_text()))) & HEAVY
    # The process that steps are forked from is to have these loaded; nothing else imports them.
    assert found <= PRELOADED.get(path.name, set())


def test_preloading_is_left_to_the_executor() -> None:
    importing = {_id(path) for path in SOURCES if "fer_pipeline.preload" in path.read_text()}
    assert importing == {"executors.py"}


def test_only_tracking_starts_mlflow_runs() -> None:
    starting = {
        _id(path)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] in {"start_run", "create_run"}
    }
    assert starting == {"tracking.py"}
