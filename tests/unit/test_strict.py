"""Numbers as JSON Schema sees them: 3.0 is an integer, 3.5 and true are none."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.domain.strict import Sent


class Order(Sent):
    count: int = 0
    maybe: int | None = None
    seconds: float = 0.0
    free: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it


def test_an_integral_number_fits_an_integer_however_it_is_written() -> None:
    sent = Order.model_validate({"count": 3.0, "maybe": -2.0})
    assert (sent.count, sent.maybe) == (3, -2)
    assert type(sent.count) is int


def test_other_numbers_stay_as_they_are() -> None:
    sent = Order.model_validate({"seconds": 3.0, "free": {"x": 3.0}})
    assert type(sent.seconds) is float and type(sent.free["x"]) is float


@pytest.mark.parametrize("count", [3.5, True, "3", None])
def test_what_is_no_integer_is_refused(count: object) -> None:
    with pytest.raises(ValidationError):
        Order.model_validate({"count": count})
