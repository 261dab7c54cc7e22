"""What Kubeflow Pipelines says to a step, and what it wants to hear: ExecutorInput and ExecutorOutput of its version 2.

Plain JSON: the package of Kubeflow Pipelines is not needed, and cannot be beside Muster's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from orchestrator.errors import Invalid

_INPUT = re.compile(r"\{\{\$\.inputs\.parameters\['([^']+)'\]\}\}")
_MOUNTED = {"gs://": "/gcs/", "minio://": "/minio/", "s3://": "/s3/"}
"""Where the launcher looks for what a step wrote for a URI."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One run of a step: its parameters, and where its outputs go."""

    parameters: Mapping[str, Any]
    artifacts: Mapping[str, str]
    """URIs of the output artifacts, by name."""
    answer: Path
    """Where the launcher reads what came of it."""
    said: dict[str, Any] = field(default_factory=lambda: {"parameterValues": {}, "artifacts": {}})

    @classmethod
    def read(cls, text: str) -> Self:
        """Raises Invalid for what is no ExecutorInput."""
        try:
            document = json.loads(text)
            outputs = document["outputs"]
            given = document.get("inputs", {}).get("parameterValues", {})
            lists = outputs.get("artifacts", {})
            return cls(
                parameters={name: _plain(value, given) for name, value in given.items()},
                artifacts={name: one["artifacts"][0]["uri"] for name, one in lists.items() if one.get("artifacts")},
                answer=Path(outputs["outputFile"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Invalid(
                f"--executor-input is not what Kubeflow Pipelines gives a step ({error!r}): pass '{{{{$}}}}'",
                code="bad_executor_input",
            ) from error

    def path(self, name: str) -> Path:
        """Where to write what is to become the artifact."""
        uri = self.artifacts[name]
        for scheme, folder in _MOUNTED.items():
            if uri.startswith(scheme):
                return Path(folder + uri.removeprefix(scheme))
        return Path(uri)

    def give(self, **values: Any) -> None:
        """Output parameters."""
        self.said["parameterValues"] |= values

    def describe(self, name: str, metadata: Mapping[str, Any], uri: str | None = None) -> None:
        """An output artifact; `uri`: if it lies elsewhere than where Kubeflow Pipelines wants it."""
        artifact = {"name": name, "uri": uri or self.artifacts[name], "metadata": dict(metadata)}
        self.said["artifacts"][name] = {"artifacts": [artifact]}

    def write(self) -> None:
        """Tell the launcher; the last thing that a good step does."""
        self.answer.parent.mkdir(parents=True, exist_ok=True)
        self.answer.write_text(json.dumps(self.said))


def _plain(value: Any, given: Mapping[str, Any]) -> Any:
    """Whole numbers as such, which come as floats; and references to other parameters within lists and dicts resolved,
    which the launcher leaves, or makes text of."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case str() if found := _INPUT.fullmatch(value):
            return _plain(given.get(found[1], value), {})
        case str():
            return _INPUT.sub(lambda one: str(_plain(given.get(one[1], one[0]), {})), value)
        case list():
            return [_plain(one, given) for one in value]
        case dict():
            return {name: _plain(one, given) for name, one in value.items()}
        case _:
            return value
