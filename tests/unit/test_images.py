"""The images, as far as their text tells; `make check-images` carries their installs out."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docker_check", ROOT / "docker" / "check.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


check = load()


def test_both_images_are_known() -> None:
    assert [image.name for image in check.images()] == ["service", "worker"] == sorted(check.PROGRAMS)


@pytest.mark.parametrize("name", ["service", "worker"])
def test_images_are_pinned_and_run_as_nobody_in_particular(name: str) -> None:
    (image,) = (one for one in check.images() if one.name == name)
    assert image.faults == []
    assert image.installs


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('FROM python:3\nUSER 1:1\nCMD ["x"]', "not pinned"),
        ('FROM python\nUSER 1:1\nCMD ["x"]', "not pinned"),
        ('FROM a/b:1.2.3\nCMD ["x"]', "not root"),
        ('FROM a/b:1.2.3\nUSER 0:0\nCMD ["x"]', "not root"),
        ('FROM a/b:1.2.3\nUSER muster\nCMD ["x"]', "not root"),
        ("FROM a/b:1.2.3\nUSER 1:1\nCMD muster", "in a shell"),
        ('FROM a/b:1.2.3\nADD http://x /y\nUSER 1:1\nCMD ["x"]', "COPY"),
        ('FROM a/b:1.2.3\nUSER 1:1\nCMD ["x"]\nUSER 2:2', "follow"),
    ],
)
def test_what_is_careless_is_found(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "x.Dockerfile").write_text(text)
    assert any(fault in one for one in check.Image.read(tmp_path / "x.Dockerfile").faults)


def test_the_worker_image_brings_all_that_inference_imports_but_torch() -> None:
    """Samples excepted: their training script needs more."""
    words = (ROOT / "docker" / "worker-requirements.txt").read_text().splitlines()
    brought = {re.split(r"[<>=]", line)[0].replace("pillow", "PIL") for line in words if not line.startswith("#")}
    files = [path for path in (ROOT / "inference").rglob("*.py") if "samples" not in path.parts]
    imported = {name for path in files for name in _imports(ast.parse(path.read_text()))}
    foreign = imported - set(sys.stdlib_module_names) - {"inference", "torch"}
    assert foreign - brought == {"opentelemetry"}, "spans are for pods that bring it themselves (docs/traces.md)"


def _imports(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found
