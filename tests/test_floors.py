"""The house stands: imports point down the floors, and only what is marked loads torch."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("drivers", "policies", "sim", "calibration", "runtime")  # from the ground up

# What may import torch. The verbs of the command line that train may import it too, and these, but only inside a
# function or for types.
LEARNING = "model data augment handling prompts train validation ranks dagger imitate export weights"
TORCH = {f"policies.gato.{name}" for name in LEARNING.split()}
TRAINING_VERBS = {
    "runtime.commands.train",
    "runtime.learn",
    "runtime.imitate",
    "runtime.few_shot",
    "runtime.export",
    "runtime.training_log",
}
TRAINING_VERBS |= {f"runtime.bench.{part}" for part in ("sizes", "step", "torch_steps", "training")}


@dataclass(frozen=True)
class Import:
    """`module` (or, for `from a import b`, both a and a.b) is imported by `importer`; `lazy`: not when it is loaded."""

    importer: str
    module: str
    lazy: bool
    where: str


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> Iterator[Import]:
    importer = module_name(path)
    pending: list[tuple[ast.AST, bool]] = [(ast.parse(path.read_text(encoding="utf-8")), False)]
    while pending:
        node, lazy = pending.pop()
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}:{node.lineno}: relative imports hide the floor"
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from (Import(importer, name, lazy, f"{path.relative_to(ROOT)}:{node.lineno}") for name in names)
        typing = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        inside = lazy or typing or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        pending += [(child, inside) for child in ast.iter_child_nodes(node)]


IMPORTS = [found for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py")) for found in imports_of(path)]


def floor(module: str) -> int:
    return FLOORS.index(module.split(".")[0])


def test_every_floor_has_modules() -> None:
    assert {found.importer.split(".")[0] for found in IMPORTS} >= set(FLOORS) - {"calibration"}


def test_imports_point_down() -> None:
    up = [
        f"{found.where}: {found.importer} imports {found.module}"
        for found in IMPORTS
        if found.module.split(".")[0] in FLOORS and floor(found.module) > floor(found.importer)
    ]
    assert up == []


def test_nothing_imports_the_tests() -> None:
    assert [found.where for found in IMPORTS if found.module.split(".")[0] == "tests"] == []


def test_torch_is_imported_where_it_is_marked_and_elsewhere_only_by_training_when_called() -> None:
    strays = [
        f"{found.where}: {found.importer} imports {found.module}"
        for found in IMPORTS
        if (found.module in TORCH or found.module.split(".")[0] == "torch")
        and found.importer not in TORCH
        and not (found.lazy and found.importer in TRAINING_VERBS)
    ]
    assert strays == []


def modules(package: str) -> list[str]:
    return [module_name(path) for path in sorted((ROOT / package).rglob("*.py")) if path.name != "__main__.py"]


def loaded_by(names: list[str]) -> set[str]:
    """Top-level names in sys.modules of a fresh interpreter after importing `names`."""
    script = (
        "import importlib, json, sys\n"
        "for name in json.loads(sys.argv[1]): importlib.import_module(name)\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    command = [sys.executable, "-c", script, json.dumps(names)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("package", ["drivers", "sim", "runtime"])
def test_importing_all_of_a_package_loads_no_torch(package: str) -> None:
    assert "torch" not in loaded_by(modules(package))


def test_tokens_and_sequence_need_numpy_alone() -> None:
    loaded = loaded_by(["policies.gato.tokens", "policies.gato.sequence"])
    assert loaded.isdisjoint({"torch", "onnxruntime", "cv2", "sentencepiece", "pydantic", "pybullet"})


def test_the_servo_process_loads_no_inference_and_no_camera() -> None:
    loaded = loaded_by(["runtime.servo_child", "drivers.feetech", "drivers.robot"])
    assert loaded.isdisjoint({"torch", "onnxruntime", "cv2", "pybullet"})
