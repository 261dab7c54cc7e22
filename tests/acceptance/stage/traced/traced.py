"""A handler of three phases that says what it was told of its trace."""

from typing import Any

from inference import Context, Handler


class Traced(Handler[dict[str, Any]]):
    def run(self, ctx: Context, input: dict[str, Any]) -> dict[str, Any]:
        for name in ("load", "steps"):
            for _ in ctx.steps(range(2), phase=name):
                pass
        ctx.phase("save")
        if input.get("fail"):
            raise ValueError("as asked")
        return {"traceparent": ctx.traceparent, "tracestate": ctx.tracestate, "rank": ctx.rank}
