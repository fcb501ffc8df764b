"""The house: which room may know which, held against the imports themselves."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ckptctl"
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
FLOOR = {
    "errors": 0,
    "model": 0,
    "naming": 0,
    "leftover_names": 1,
    "units": 1,
    "posix": 1,
    "protos": 1,
    "tensorflow": 2,
    "bundle": 2,
    "chronology": 2,
    "locks": 2,
    "snapshot": 2,
    "exchange": 3,
    "openfiles": 2,
    "contention": 1,
    "removal": 2,
    "rights": 1,
    "atomic": 2,
    "pinfile": 2,
    "configuration": 2,
    "roots": 2,
    "recovery": 4,
    "matching": 1,
    "policy": 2,
    "metrics": 2,
    "eventfile": 3,
    "events": 4,
    "writers": 1,
    "keras_formats": 2,
    "voice": 1,
    "marks": 1,
    "notify": 1,
    "tally": 2,
    "exporter": 3,
    "render": 2,
    "render_overview": 3,
    "statefile": 3,
    "notes": 3,
    "plan": 4,
    "measured": 5,
    "explanation": 6,
    "mending": 5,
    "leftovers": 4,
    "opened": 3,
    "files": 2,
    "contents": 4,
    "tensors": 5,
    "scan": 5,
    "restore": 4,
    "verify": 5,
    "proof": 6,
    "render_verify": 7,
    "prune": 7,
    "pins": 7,
    "repair": 7,
    "clean": 7,
    "render_explain": 8,
    "render_mend": 8,
    "lookout": 7,
    "watch": 8,
    "plotting": 8,
    "__init__": 9,
    "cli": 10,
    "__main__": 11,
    "demo_trainer": 11,
    "restoring": 11,
}
"""A module may import modules of lower floors, and of its own folder."""


def imports(path: Path) -> set[str]:
    """The full names of the modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            found.add(node.module or "")
            if node.module == "ckptctl":
                found |= {f"ckptctl.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("name", MODULES)
def test_imports_follow_the_floors(name: str) -> None:
    """Nothing knows a room above its own."""
    room = name.split(".", maxsplit=1)[0]
    for imported in imports(MODULES[name]):
        if imported.startswith("ckptctl."):
            other = imported.split(".")[1]
            if other in FLOOR and other != room:
                assert FLOOR[other] < FLOOR[room], f"{name} imports {imported}"


@pytest.mark.parametrize("name", MODULES)
def test_foreign_packages_have_one_door(name: str) -> None:
    """Click stays in cli/, watchdog in lookout, tabulate in tables, matplotlib in plotting, and so on."""
    doors = {
        "click": {"cli"},
        "watchdog": {"lookout"},
        "tabulate": {"render", "cli"},
        "tomllib": {"configuration"},
        "tomli": {"configuration"},
        "tensorboard": {"eventfile"},
        "tensorflow": {"tensorflow", "demo_trainer", "restoring"},
        "keras": {"demo_trainer"},
        "matplotlib": {"plotting"},
        "prometheus_client": {"exporter"},
    }
    for imported in imports(MODULES[name]):
        package = imported.split(".")[0]
        assert name.split(".", maxsplit=1)[0] in doors.get(package, {name.split(".", maxsplit=1)[0]}), (
            f"{name} imports {imported}"
        )


@pytest.mark.parametrize("name", MODULES)
def test_module_can_be_read_at_a_sitting(name: str) -> None:
    """A module stays under about 300 lines of code, docstrings and comments apart from it."""
    assert len(MODULES[name].read_text().splitlines()) <= 420


@pytest.mark.parametrize("program", ["demo_trainer", "restoring"])
def test_nothing_imports_a_program(program: str) -> None:
    """What loads all of TensorFlow runs in a process of its own."""
    for name, path in MODULES.items():
        if name.split(".", maxsplit=1)[0] != program:
            assert not [one for one in imports(path) if f"{one}.".startswith(f"ckptctl.{program}.")], name
