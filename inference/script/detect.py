"""Which of a script's arguments belong to the gang, read from its text and its names. Does not import torch.

Only a proposal: a template that lists `gang_args` has the last word.
"""

import ast
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

GANG = re.compile(
    r"(^|_)(task|model|ckpt|checkpoint|weights|config|fsdp|tp|pp|sp|cp|usp|ulysses|ring|parallel|offload|dtype|precision"
    r"|fp8|fp16|bf16|int8|quant|quantize|quantization|compile|cpu|lora|backend|device|extend_method)(_|$)"
    r"|^use_prompt_extend$|parallel"
)
REQUEST = re.compile(
    r"(^|_)(prompt|seed|steps|image|images|frame|frames|video|videos|audio|text|mask|size|width|height|fps|scale|shift"
    r"|guidance|guide|cfg|solver|sampler|negative|lang|num|count|duration|strength|ref|input)(_|$)"
)
OUTPUT = re.compile(r"^(save_file|save_path|save_to|output|out|outfile|output_(path|file|video|image|name))$")
SUFFIX = re.compile(r"^\.(mp4|gif|webm|png|jpg|wav|json|txt|pt|safetensors)$")
ONCE = ("init_distributed_environment", "initialize_model_parallel", "initialize_sequence_parallel_state")
NOT_MODELS = {*sys.stdlib_module_names, "torch", "numpy", "PIL", "tqdm"}


@dataclass(frozen=True)
class Builder:
    """A call that makes something of a class from arguments."""

    name: str
    arguments: frozenset[str]
    reference: str | None  # module:Class, where it could be found


def level(name: str, builders: Collection[Builder]) -> tuple[str, str]:
    """`gang`, `request` or `output`, and why."""
    if OUTPUT.match(name):
        return "output", "says where to save"
    if GANG.search(name):
        return "gang", "its name: how the model is loaded or laid out"
    if REQUEST.search(name):
        return "request", "its name: what to make"
    for builder in builders:
        if name in builder.arguments:
            return "gang", f"builds {builder.name}"
    return "request", "builds nothing"


def builders(tree: ast.Module, arguments: Collection[str], namespace: Mapping[str, Any]) -> list[Builder]:
    """Calls of classes that arguments of the gang go into, and none of the request's by value."""
    found: dict[str, Builder] = {}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = _dotted(call.func)
        if name is None or not _is_class_name(name) or (found_class := _lookup(name, namespace)) is NotImplemented:
            continue
        values = [*call.args, *(keyword.value for keyword in call.keywords)]
        used = {one for value in values for one in _mentioned(value, arguments)}
        passed = {one for value in values if not isinstance(value, ast.Compare) for one in _mentioned(value, arguments)}
        if used and not any(level(one, ())[1].startswith("its name: what") for one in passed):
            found[name] = Builder(name, frozenset(used), _reference(found_class))
    return list(found.values())


def initialisers(tree: ast.Module) -> list[str]:
    """Functions known to refuse a second call, as module:function."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    return [f"{node.module}:{alias.name}" for node in imports for alias in node.names if alias.name in ONCE]


def output_suffix(tree: ast.Module) -> str:
    found = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    suffixes = [text for text in found if SUFFIX.match(text)]
    return ".mp4" if ".mp4" in suffixes else suffixes[0] if suffixes else ".mp4"


def _mentioned(node: ast.AST, arguments: Collection[str]) -> Iterator[str]:
    """`args.size` somewhere in an expression."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name) and inner.attr in arguments:
            yield inner.attr


def _dotted(node: ast.expr) -> str | None:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            front = _dotted(value)
            return f"{front}.{attr}" if front else None
        case _:
            return None


def _is_class_name(name: str) -> bool:
    last = name.rpartition(".")[2]
    return last[:1].isupper() and not last.isupper()


def _lookup(name: str, namespace: Mapping[str, Any]) -> Any:
    """The class; None if the text alone does not tell; NotImplemented if it is none that could be a model."""
    first, *rest = name.split(".")
    found = namespace.get(first)
    for part in rest:
        found = getattr(found, part, None)
    if found is None:
        return None
    is_model = isinstance(found, type) and found.__module__.partition(".")[0] not in NOT_MODELS
    return found if is_model else NotImplemented


def _reference(found: Any) -> str | None:
    return f"{found.__module__}:{found.__qualname__}" if isinstance(found, type) else None
