"""The base of what people write in templates: unknown fields and guesses at types are refused."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Strict(BaseModel):
    """Frozen; a number is no text, text is no number. A list will do for a tuple: JSON and YAML know only lists."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _lists_will_do(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: tuple(inner) if isinstance(inner, list) else inner for key, inner in value.items()}
