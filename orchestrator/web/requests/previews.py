"""How a file of a request is shown: which media a browser may show, and that nothing else is ever opened here. Pure."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from orchestrator.web.frame import legible

IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
VIDEOS = frozenset({"video/mp4", "video/webm"})
TEXTS = frozenset(
    {
        "text/plain",
        "text/csv",
        "text/markdown",
        "application/json",
        "application/x-ndjson",
        "application/jsonl",
        "application/yaml",
        "application/x-yaml",
    }
)
"""Read as text. HTML and SVG are not among them: they are only ever downloaded."""
PREVIEW_BYTES = 64 << 10
_LONG = 400


def base_type(media: str) -> str:
    return media.partition(";")[0].strip().lower()


def way_of(media: str) -> str:
    """`image`, `video`, `text`, or `none`."""
    kind = base_type(media)
    ways = {"image": IMAGES, "video": VIDEOS, "text": TEXTS}
    return next((way for way, kinds in ways.items() if kind in kinds), "none")


def served_as(media: str) -> str:
    """The media type that the pages serve it with: a browser shows images and videos, and takes all else for bytes."""
    kind = base_type(media)
    return kind if kind in IMAGES | VIDEOS else "application/octet-stream"


def output_of(told: Mapping[str, Any]) -> dict[str, Any]:
    """An output as the page shows it."""
    request_id = told["url"].split("/")[3]
    return {
        **told,
        "way": "none" if told["expired"] else way_of(told["media_type"]),
        "path": f"/requests/{request_id}/outputs/{quote(told['name'], safe='')}",
        "preview": f"/requests/{request_id}/previews/{quote(told['name'], safe='')}",
    }


def inputs_of(request_id: str, values: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """What stands in an input, as the page shows it. Of a long one, nothing gets a line for each value."""
    write = legible.pretty if legible.short(values) is not None else json.dumps
    return [_input_of(request_id, name, value, files.get(name), write) for name, value in values.items()]


def _input_of(
    request_id: str, name: str, value: Any, file: Mapping[str, Any] | None, write: Callable[[Any], str]
) -> dict[str, Any]:
    """A file with a link, a text as it is, all else as JSON."""
    text = legible.beginning(value if isinstance(value, str) else write(value))
    shown = {"name": name, "text": text, "is_text": isinstance(value, str), "is_long": len(text) > _LONG, "file": None}
    if file is None:
        return shown
    media = mimetypes.guess_type(str(file.get("name") or ""))[0] or "application/octet-stream"
    return shown | {
        "file": {
            "name": file.get("name") or value,
            "bytes": file.get("bytes"),
            "way": way_of(media) if way_of(media) in ("image", "video") else "none",
            "path": f"/requests/{request_id}/inputs/{quote(name, safe='')}",
            "media": media,
        }
    }
