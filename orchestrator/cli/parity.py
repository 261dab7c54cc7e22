"""Whether two answers to one request are the same: results as JSON, outputs as bytes or, failing that, as pixels.

Pure but for reading the files. Pictures are decoded with Pillow where it is installed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

MISSING = object()


@dataclass(frozen=True, kw_only=True)
class Answer:
    succeeded: bool
    why: str
    result: Any
    files: dict[str, Path]

    @classmethod
    def of(cls, finish: Mapping[str, Any], folder: Path) -> Self:
        error = finish.get("error") or {}
        return cls(
            succeeded=finish["outcome"] == "succeeded",
            why=f"{error.get('code', finish['outcome'])}: {error.get('message', '')}",
            result=finish.get("result"),
            files={one["name"]: folder / one["name"] for one in finish.get("outputs") or ()},
        )


@dataclass(frozen=True, kw_only=True)
class Verdict:
    what: str
    equal: bool
    how: str


def compare(warm: Answer, fresh: Answer, tolerance: float) -> list[Verdict]:
    """The result, then every file that either of them has."""
    names = sorted(warm.files.keys() | fresh.files.keys())
    return [
        _results(warm.result, fresh.result, tolerance),
        *(_files(name, warm.files.get(name), fresh.files.get(name), tolerance) for name in names),
    ]


def _results(one: Any, other: Any, tolerance: float) -> Verdict:
    difference = next(_differences(one, other, tolerance, ""), None)
    return Verdict(what="result", equal=difference is None, how=difference or "same JSON")


def _differences(one: Any, other: Any, tolerance: float, where: str) -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from _differences(one.get(key, MISSING), other.get(key, MISSING), tolerance, f"{where}/{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for place, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from _differences(left, right, tolerance, f"{where}/{place}")
    elif not _close(one, other, tolerance):
        yield f"{where or '/'}: warm {_shown(one)}, fresh {_shown(other)}"


def _close(one: Any, other: Any, tolerance: float) -> bool:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other))
    return bool(math.isclose(one, other, rel_tol=0, abs_tol=tolerance) if numbers else one == other)


def _shown(value: Any) -> str:
    return "nothing" if value is MISSING else repr(value)[:60]


def _files(name: str, warm: Path | None, fresh: Path | None, tolerance: float) -> Verdict:
    if warm is None or fresh is None:
        return Verdict(what=name, equal=False, how=f"only the {'fresh' if warm is None else 'warm'} one wrote it")
    if warm.read_bytes() == fresh.read_bytes():
        return Verdict(what=name, equal=True, how="same bytes")
    gap = _pixel_gap(warm, fresh)
    if gap is None:
        return Verdict(what=name, equal=False, how="other bytes")
    return Verdict(what=name, equal=gap <= tolerance, how=f"other bytes, pixels differ by at most {gap:g}")


def _pixel_gap(warm: Path, fresh: Path) -> float | None:
    """The largest difference of two pictures' pixels, over all frames; None if they cannot be held together."""
    try:
        from PIL import Image, ImageChops, ImageSequence
    except ImportError:
        return None
    try:
        with Image.open(warm) as one, Image.open(fresh) as other:
            if one.size != other.size or getattr(one, "n_frames", 1) != getattr(other, "n_frames", 1):
                return None
            pairs = zip(ImageSequence.Iterator(one), ImageSequence.Iterator(other), strict=True)
            return max(_gap(ImageChops.difference(a.convert("RGB"), b.convert("RGB"))) for a, b in pairs)
    except OSError:  # not a picture
        return None


def _gap(difference: Any) -> float:
    return float(max(high for _, high in difference.getextrema()))
