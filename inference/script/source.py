"""A script's file: imported once, its main part run once per request. Does not import torch.

The main part is the body of `if __name__ == "__main__":`. A script without one is run as a whole each time.
"""

import ast
import importlib.util
import sys
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, TypeGuard

from inference.environment import ConfigurationError

MAIN = "__main__"


def find(where: str) -> Path:
    """`/path/file.py`, or the dotted name of an installed module."""
    if where.endswith(".py"):
        path = Path(where)
    else:
        try:
            spec = importlib.util.find_spec(where)
        except ImportError:
            spec = None
        path = Path(spec.origin) if spec is not None and spec.origin else Path(where)
    if not path.is_file():
        raise ConfigurationError(f"script {where!r} does not exist on this node")
    return path.absolute()


class Source:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = ast.parse(path.read_bytes(), str(path))
        guarded = next(filter(is_main_guard, self.tree.body), None)
        self._main = _compiled(guarded.body if guarded is not None else self.tree.body, self.tree, path)
        self._guarded = guarded is not None
        self._module: ModuleType | None = None
        self._imported: dict[str, Any] = {}

    def load(self) -> None:
        """Imports the script, if it has a main part of its own. Its folder comes first, as for `python FILE`."""
        folder = str(self.path.parent)
        if folder not in sys.path:
            sys.path.insert(0, folder)
        if not self._guarded:
            return
        spec = importlib.util.spec_from_file_location(self.path.stem, self.path)
        assert spec is not None and spec.loader is not None
        self._module = sys.modules[self.path.stem] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._module)
        self._imported = dict(vars(self._module))

    @property
    def namespace(self) -> dict[str, Any]:
        """What the import bound."""
        return self._imported

    def run(self) -> None:
        """The main part, in the module as it was after the import: what a run binds is forgotten."""
        if self._module is None:
            self._run_whole()
            return
        try:
            exec(self._main, vars(self._module))  # noqa: S102 - running the user's script is what this is for
        finally:
            vars(self._module).clear()
            vars(self._module).update(self._imported)

    def _run_whole(self) -> None:
        before = sys.modules[MAIN]
        module = sys.modules[MAIN] = ModuleType(MAIN)
        module.__file__ = str(self.path)
        try:
            exec(self._main, vars(module))  # noqa: S102
        finally:
            sys.modules[MAIN] = before


def is_main_guard(node: ast.stmt) -> TypeGuard[ast.If]:
    """`if __name__ == "__main__":`, either way round."""
    if not isinstance(node, ast.If) or not isinstance(node.test, ast.Compare) or len(node.test.comparators) != 1:
        return False
    sides = (node.test.left, node.test.comparators[0])
    named = any(isinstance(side, ast.Name) and side.id == "__name__" for side in sides)
    return named and any(isinstance(side, ast.Constant) and side.value == MAIN for side in sides)


def _compiled(body: list[ast.stmt], tree: ast.Module, path: Path) -> CodeType:
    """With the script's `from __future__` imports, which hold for the whole file."""
    future = [n for n in tree.body if isinstance(n, ast.ImportFrom) and n.module == "__future__" and n not in body]
    return compile(ast.Module([*future, *body], []), str(path), "exec", dont_inherit=True)
