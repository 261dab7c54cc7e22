"""Models that a script builds are kept once each, by whatever names the script knows their class."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from inference.script import active, keep


class Model:
    def __init__(self, size: int) -> None:
        self.size = size


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> type[Model]:
    """The class in a module of its own, under two names."""
    module = ModuleType("models_of_a_script")
    kind = type("Model", (Model,), {})
    module.Model = module.Painter = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return kind


def test_a_class_with_two_names_is_built_and_counted_once(models: type[Model], monkeypatch: pytest.MonkeyPatch) -> None:
    keep.install(["models_of_a_script:Model", "models_of_a_script:Painter", "models_of_a_script:Model"], [])
    run = SimpleNamespace(keep=keep.Keep())
    monkeypatch.setattr(active, "current", lambda: run)
    run.keep.begin()
    first = models(3)
    assert first.size == 3 and (run.keep.built, run.keep.reused) == (1, 0)
    run.keep.begin()
    assert models(3) is first and (run.keep.built, run.keep.reused) == (0, 1)
    assert models(4) is not first
