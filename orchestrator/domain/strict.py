"""The bases of what people send: unknown fields and guesses at types are refused."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator


class Sent(BaseModel):
    """A number is no text, text is no number; but 3.0 fits an integer: JSON Schema knows one kind of number."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _integral_is_integer(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not any(type(each) is float for each in value.values()):
            return value
        return {key: int(each) if _fits(each) and cls._takes_int(key) else each for key, each in value.items()}

    @classmethod
    def _takes_int(cls, name: Any) -> bool:
        field = cls.model_fields.get(name) if isinstance(name, str) else None
        kinds = (field.annotation, *get_args(field.annotation)) if field else ()
        return int in kinds and float not in kinds


def _fits(value: Any) -> bool:
    return type(value) is float and value.is_integer()


class Strict(Sent):
    """Of templates: frozen. A list will do for a tuple: JSON and YAML know only lists."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _lists_will_do(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: tuple(inner) if isinstance(inner, list) else inner for key, inner in value.items()}
