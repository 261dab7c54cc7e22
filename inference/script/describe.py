"""A script seen from outside: its arguments, whose they are and why, what to memoise. For `muster run` and templates.

Runs the script until it parses its arguments, which imports what the script imports; this module itself does not
import torch.
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from inference.script import detect
from inference.script.arguments import Arguments, catch_parser, parse_given
from inference.script.source import Source, find


def describe(where: str, words: Sequence[str], says: Mapping[str, Any]) -> dict[str, Any]:
    """`says` is what the template says already: it wins. `words` are a command line to take apart."""
    source = Source(find(where))
    with redirect_stdout(sys.stderr):  # stdout is for the answer
        sys.argv = [str(source.path), *words]
        source.load()
        parser = catch_parser(source.run)
        arguments = Arguments.of(parser)
        given = parse_given(parser, list(words)) if parser is not None and words else {}
    names = [argument.name for argument in arguments.all]
    builders = detect.builders(source.tree, names, source.namespace)
    levels = {name: _level(name, builders, says) for name in names}
    outputs = says.get("outputs") or {
        name: f"output{_suffix(given.get(name), source)}" for name, (level, _) in levels.items() if level == "output"
    }
    gang_args = [name for name, (level, _) in levels.items() if level == "gang"]
    return {
        "script": {
            "path": str(source.path),
            "gang_args": gang_args,
            "memoise": says.get("memoise") or list(dict.fromkeys(one.reference for one in builders if one.reference)),
            "once": says.get("once") or detect.initialisers(source.tree),
            "outputs": outputs,
        },
        "input": arguments.schema({*gang_args, *outputs}),
        "given": given,
        "arguments": [{"name": name, "level": level, "why": why} for name, (level, why) in levels.items()],
    }


def _level(name: str, builders: Sequence[detect.Builder], says: Mapping[str, Any]) -> tuple[str, str]:
    if name in (says.get("outputs") or {}):
        return "output", "the template says so"
    if says.get("gang_args") is None:
        return detect.level(name, builders)
    return ("gang" if name in says["gang_args"] else "request"), "the template says so"


def _suffix(given: Any, source: Source) -> str:
    return (Path(str(given)).suffix if given else "") or detect.output_suffix(source.tree)
