"""What `muster dev` runs: a template, a handler or a script, on gangs of its own, one request at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from orchestrator.cli.dev_desk import Gang
from orchestrator.cli.inputs import gather
from orchestrator.cli.introspect import describe
from orchestrator.cli.parity import Answer
from orchestrator.cli.template_files import absolute, read_template
from orchestrator.domain.template import Template


class Trial:
    """`target`, the gang-level `args` over its own, and one input."""

    def __init__(
        self,
        target: str,
        args: Sequence[str],
        pairs: Sequence[str],
        input_file: Path | None,
        *,
        ranks: int | None,
        scratch: Path,
    ) -> None:
        self._template = _template(target, args)
        self._input = gather(self._template.input, pairs, file=input_file, send=lambda path: str(path.absolute()))
        self._ranks = ranks or self._template.ranks_per_replica
        self._scratch = scratch

    def answer(self, place: Path) -> Answer:
        (answer,) = self._answers([place])
        return answer

    def warm_and_fresh(self, place: Path) -> tuple[Answer, Answer]:
        """The second answer of one gang, and the first of another."""
        _, warm = self._answers([place / "first", place / "warm"])
        return warm, self.answer(place / "fresh")

    def _answers(self, places: Sequence[Path]) -> list[Answer]:
        """Of one gang: the same request once per place."""
        with Gang(_config(self._template), self._ranks, self._scratch / "ranks", self._template.env) as gang:
            return [Answer.of(gang.ask(self._input, place), place) for place in places]


def _template(target: str, args: Sequence[str]) -> Template:
    document = _document(target)
    given = gather(None, args)
    try:
        return Template.model_validate({**document, "args": {**(document.get("args") or {}), **given}})
    except ValidationError as error:
        raise click.UsageError(f"{target} cannot be run: {error.errors()[0]['msg']}") from None


def _document(target: str) -> dict[str, Any]:
    if target.endswith(".py"):
        found = describe(str(Path(target).resolve()))
        return {"name": "dev", "script": found["script"], "input": found["input"], "workdir": str(Path.cwd())}
    if ":" in target:
        return absolute({"name": "dev", "handler": target, "workdir": str(Path.cwd())}, Path.cwd())
    return read_template(target)


def _config(template: Template) -> dict[str, Any]:
    return {
        "template": template.name,
        "version": 1,
        "mode": "serve",
        "handler": template.handler,
        "args": template.handler_args,
        "workdir": template.workdir,
        "data_backend": template.data_backend,
        "data_timeout_s": template.limits.data_timeout_s,
    }
