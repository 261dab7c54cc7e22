"""A handler for tests of pages: goes through phases, speaks on every rank, leaves outputs of every kind."""

import json
import os
import sys
import time
from typing import Any

from PIL import Image

from inference import Context, Handler

HOSTILE = "<script>document.title='taken'</script>"
RED, FLIP = "\x1b[31m", "\u202e"
EVIL_HTML = (
    "<!doctype html><title>evil</title><script>document.title='taken'; top.document.title='taken';"
    " fetch('/v1/requests')</script><h1>harmless</h1><img src=x onerror=\"document.title='taken'\">"
)
EVIL_SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40" onload="document.title=\'taken\'">'
    '<script>document.title="taken"; fetch("/v1/requests")</script><circle r="20" cx="20" cy="20" fill="red"/></svg>'
)


class Gallery(Handler):  # type: ignore[type-arg]
    def run(self, ctx: Context, input: dict[str, Any]) -> dict[str, Any]:
        ctx.phase("encode")
        sys.stdout.write(f"rank {ctx.rank} encodes {HOSTILE} {RED}red\x1b[0m {FLIP}flipped\n")
        time.sleep(input.get("encode_s", 0.3))
        self._denoise(ctx, input)
        for line in range(int(input.get("lines", 0))):
            sys.stdout.write(f"line {line} of rank {ctx.rank}\n")
        ctx.phase("decode")
        time.sleep(input.get("decode_s", 0.2))
        if ctx.rank == 0 and input.get("outputs", True):
            _paint(ctx)
        ctx.metric("frames", 12)
        return {"said": HOSTILE, "frames": 12}

    def _denoise(self, ctx: Context, input: dict[str, Any]) -> None:
        steps = int(input.get("steps", 8))
        for step in ctx.steps(range(steps), phase="denoise"):
            time.sleep(input.get("step_s", 0.05))
            if step == input.get("fails_at") and ctx.rank == 1:
                raise ValueError(f"the picture is torn {HOSTILE} {RED}red {FLIP}flipped")
            if step == input.get("dies_at") and ctx.rank == 1 and ctx.attempt == 1:
                os._exit(1)


def _paint(ctx: Context) -> None:
    shades = [Image.new("RGB", (160, 90), (30 * n, 90, 255 - 30 * n)) for n in range(6)]
    shades[0].save(ctx.output("still.png"))
    shades[0].save(ctx.output("moves.gif"), save_all=True, append_images=shades[1:], duration=120, loop=0)
    shades[2].save(ctx.output("photo.jpg"))
    shades[3].save(ctx.output("photo.webp"))
    ctx.output("facts.json").write_text(json.dumps({"seed": 7, "note": HOSTILE, "colours": ["red", "green"]}))
    ctx.output("notes.txt").write_text(f"A note.\n{HOSTILE}\n{RED}red\x1b[0m {FLIP}flipped\n")
    ctx.output("page.html", "text/html").write_text(EVIL_HTML)
    ctx.output("drawing.svg", "image/svg+xml").write_text(EVIL_SVG)
    ctx.output("clip.webm", "video/webm").write_bytes(bytes(range(256)) * 40)
    ctx.output("weights.bin").write_bytes(os.urandom(5000))
    ctx.output(f"<img src=x onerror=alert(1)>{FLIP}gnp.exe", "text/html; charset=utf-8").write_text(EVIL_HTML)
    ctx.output("pretends.png", "image/png").write_text(EVIL_HTML)
