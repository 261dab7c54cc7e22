"""S7. A gang on GPUs: what Muster costs, how long it starts, how it cancels, and what is known of every failure.

`python -m benchmarks.gpu [--gpus 1 2]`; needs a machine with NVIDIA GPUs that nobody else uses.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine, stand
from benchmarks.figures import median, quantile, spread
from benchmarks.results import FOLDER, Aim, Result
from benchmarks.stand import Stand, until

HANDLER = f"{Path(__file__).with_name('transformer.py')}:Transformer"
MODEL = {"layers": 28, "width": 4096, "tokens": 8192}
SMALL = {"layers": 2, "width": 1024, "tokens": 512}
REQUEST_S = 10.0
NO_PROGRESS_S = 8.0
DATA_TIMEOUT_S = 15.0
FARTHEST = 8
SLACK_S = 1.0
METHOD = f"""
The real service (`muster up`, embedded Postgres, local backend, gangs by `inference.agent`), NCCL data group, gloo
control group, defaults of the service. The model: a transformer, random weights in bf16, {MODEL["layers"]} layers of
width {MODEL["width"]}, sharded with FSDP2 over all ranks (`benchmarks/transformer.py`); each rank walks steps over
{MODEL["tokens"]} tokens of its own and takes the mean of all ranks after each step. All clocks are this machine's.

*Share*: a request of about {REQUEST_S:g} s; seconds of the client from POST to the terminal answer, less the seconds
inside `Handler.run` on rank 0 (to the end of its last kernel). *Steps*: half as many in a plain loop, without
`ctx.steps`. *Cold start*: `launch_seconds` of the gang, and from the call that asks for it to idle. *Cancels*: while
one request runs the next is queued; canceled at a random time within {FARTHEST} steps after its first one; seconds from
before the POST of the cancel to the first step of the next on rank 0. *Memory*: of every rank, as torch says it inside
requests before and after the cancels, and as nvidia-smi says it while the gang idles. *Failures*: at step 3; seconds
from the moment of failure, noted by the rank, to the cause on the request and to the first step of another request.
`no_progress_s` is {NO_PROGRESS_S:g} s.
"""
FAILURES = (
    "what happens",
    "shown",
    "by",
    "stacks",
    "seconds to it",
    "request",
    "gang",
    "serving again after s",
    "MiB of torch / nvidia-smi",
)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--gpus", type=int, nargs="*", help="sizes of the gangs; default: 1, 2, 4, 8 as far as there are"
    )
    parser.add_argument("--cancels", type=int, default=100)
    parser.add_argument("--layers", type=int, default=MODEL["layers"])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--add", type=Path, nargs="*", default=[], help="gpu.json of earlier runs to show as well")
    options = parser.parse_args(argv)
    there = [name for name, _ in _smi()]
    sizes = options.gpus or [size for size in (1, 2, 4, 8) if size <= len(there)]
    result = Result(name="gpu", title="On GPUs", method=METHOD, load_before=machine.load())
    result.notes.append(f"GPUs: {', '.join(there)}")
    options.folder.mkdir(parents=True, exist_ok=True)
    for earlier in options.add:
        for name, seen in json.loads(earlier.read_text())["samples"].items():
            result.samples[name] = seen
            _report(result, int(name.split()[0]), seen)
    with (
        tempfile.TemporaryDirectory(prefix="muster-gpu-") as folder,
        stand.postgres() as url,
        stand.service(url) as muster,
    ):
        for size in sizes:
            gang = Gang(muster, Path(folder) / str(size), size, {**MODEL, "layers": options.layers})
            seen = _measure(gang, options.cancels)
            result.samples[f"{size} GPUs"] = seen
            _report(result, size, seen)
            result.write(options.folder)


class Gang:
    """A template with one gang of so many ranks, seen from here."""

    def __init__(
        self, muster: Stand, folder: Path, size: int, model: dict[str, int], name: str = "transformer"
    ) -> None:
        self.muster = muster
        self.size = size
        self.name = f"{name}-{size}"
        self._folder = folder / name
        self._model = model

    def apply(self, **limits: float) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        template = {
            "name": self.name,
            "handler": HANDLER,
            "ranks_per_node": self.size,
            "args": {**self._model, "folder": str(self._folder)},
            "pool": {"min": 1, "max": 1},
            "limits": limits,
        }
        self.muster.line().good("PUT", f"/v1/templates/{self.name}", template)

    def end(self) -> None:
        self.muster.line().good("PATCH", f"/v1/pools/{self.name}", {"min": 0})
        self.muster.drain(self.name)

    def idle(self, other_than: str = "", within_s: float = 180) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            gangs = [one for one in self.muster.gangs(self.name) if one["id"] != other_than]
            return next((one for one in gangs if one["state"] == "idle"), None)

        return until(look, "an idle gang", within_s=within_s)

    def submit(self, **asked: Any) -> str:
        return str(self.muster.line().good("POST", "/v1/requests", {"template": self.name, "input": asked})["id"])

    def cancel(self, request: str) -> None:
        self.muster.line().good("POST", f"/v1/requests/{request}/cancel")

    def shown(self, request: str) -> dict[str, Any]:
        return dict(self.muster.line().good("GET", f"/v1/requests/{request}"))

    def ended(self, request: str, within_s: float = 180) -> dict[str, Any]:
        return until(lambda: _if(self.shown(request), "is_terminal"), f"{request} ends", within_s=within_s)

    def run(self, **asked: Any) -> dict[str, Any]:
        """A request that must succeed: its result, with the seconds around it."""
        line = self.muster.line()
        asked_at, began = time.time(), time.perf_counter()
        answer = line.good("POST", "/v1/requests", {"template": self.name, "input": asked}, Prefer="wait=30")
        while not answer["is_terminal"]:
            answer = line.good("GET", f"/v1/requests/{answer['id']}?wait=30")
        seconds = time.perf_counter() - began
        if answer["status"] != "succeeded":
            raise RuntimeError(f"the request is {answer['status']}: {answer['error']}")
        result = answer["result"]
        before_s = result["began_at"] - asked_at
        return {**result, "client_s": seconds, "before_s": before_s, "after_s": asked_at + seconds - result["ended_at"]}

    def noted(self, request: str, what: str, rank: int = 0, within_s: float = 60) -> float:
        """When a rank noted it."""

        def look() -> float | None:
            file = self._folder / f"rank-{rank}"
            lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
            return next((one["at"] for one in lines if (one["request"], one["what"]) == (request, what)), None)

        return until(look, f"{what} of {request}", within_s=within_s, every_s=0.005)


def _measure(gang: Gang, cancels: int) -> dict[str, Any]:
    """Each part by itself: what one cannot show must not hide the others."""
    seen: dict[str, Any] = {}
    parts: list[tuple[str, Callable[[], Any]]] = [
        ("starts", lambda: _starts(gang)),
        ("share", lambda: _share(gang)),
        ("cancels", lambda: _cancels(gang, cancels, seen["share"]["step_s"])),
        ("failures", lambda: [_tried(_play, gang, *case) for case in _cases(gang.size)]),
        ("timeout", lambda: _timeout(gang)),
    ]
    for name, part in parts:
        seen[name] = _tried(part)
        print(gang.size, name, json.dumps(seen[name]), flush=True)
    return seen


def _tried(part: Callable[..., Any], *asked: Any) -> Any:
    try:
        return part(*asked)
    except Exception:
        print(traceback.format_exc(), flush=True)
        return None


def _starts(gang: Gang) -> list[dict[str, Any]]:
    """The first of all, and once more with everything in the page cache."""
    began = time.time()
    gang.apply(no_progress_s=NO_PROGRESS_S)
    found = [gang.idle()]
    took = [time.time() - began]
    began = time.time()
    gang.muster.line().good("POST", f"/v1/gangs/{found[0]['id']}/drain")
    found.append(gang.idle(other_than=found[0]["id"]))
    took.append(time.time() - began)
    return [
        {"idle_s": s, "phases": one["launch_seconds"], "link": one["link"], "ranks": one["ranks"]}
        for s, one in zip(took, found, strict=True)
    ]


def _share(gang: Gang, times: int = 3) -> dict[str, Any]:
    first = gang.run(steps=3)
    step_s = gang.run(steps=30)["inside_s"] / 30
    steps = max(10, round(REQUEST_S / step_s))
    runs, plain = [], []
    for _ in range(times):
        runs.append(gang.run(steps=steps))
        plain.append(gang.run(steps=steps // 2, plain=True))  # shows no progress
    return {"first": first, "step_s": step_s, "steps": steps, "runs": runs, "plain": plain}


def _cancels(gang: Gang, cancels: int, step_s: float) -> dict[str, Any]:
    chance = random.Random(1)
    before, smi, started = gang.run(steps=3)["ranks"], _used(), gang.idle()
    waits, statuses = [], []
    running = gang.submit(steps=10_000)
    first = gang.noted(running, "first_step")
    for _ in range(cancels):
        waiting = gang.submit(steps=10_000)
        time.sleep(max(0.0, first + chance.uniform(0, FARTHEST * step_s) - time.time()))
        asked = time.time()
        gang.cancel(running)
        first = gang.noted(waiting, "first_step")
        waits.append(first - asked)
        statuses.append(gang.ended(running)["status"])
        running = waiting
    gang.cancel(running)
    gang.ended(running)
    after, smi_after, left = gang.run(steps=3)["ranks"], _used(), gang.idle()
    return {
        "waits": waits,
        "canceled": statuses.count("canceled"),
        "before": before,
        "after": after,
        "smi": [smi, smi_after],
        "same": (started["id"], started["incarnation"]) == (left["id"], left["incarnation"])
        and [one["pid"] for one in before] == [one["pid"] for one in after],
    }


def _cases(size: int) -> list[tuple[str, str, int, str]]:
    last = size - 1
    cases = [
        ("a rank is killed (SIGKILL)", "killed", last, "rank_failed"),
        ("a rank stands still in Python", "hang", last, "no_progress"),
        ("out of memory on all ranks", "out_of_memory", -1, "oom"),
    ]
    if size > 1:
        cases += [
            ("the same, the others wait in `.item()`", "hang_at_item", last, "no_progress"),
            ("out of memory on one rank", "out_of_memory", last, "oom"),
            ("one rank raises", "raise_error", last, "handler_error"),
            ("one rank leaves the loop early", "leave", last, "handler_error"),
        ]
    return cases


def _play(gang: Gang, what: str, how: str, on_rank: int, code: str) -> dict[str, Any]:
    before = gang.idle()
    held, smi = gang.run(steps=3)["ranks"], _used()
    request = gang.submit(steps=10_000, how=how, on_rank=on_rank)
    failed = gang.noted(request, "fails", rank=max(0, on_rank))
    shown = until(lambda: _if(gang.shown(request), "losses"), "the cause is shown", within_s=150)
    known_s = time.time() - failed
    gang.cancel(request)
    status = shown["status"]
    again = gang.submit(steps=3)
    serving_s = gang.noted(again, "first_step", within_s=180) - failed
    ended = gang.ended(again)
    after = gang.idle()
    loss = shown["losses"][0]
    seen = {
        "what": what,
        "code": code,
        "loss": loss,
        "known_s": known_s,
        "became": "failed" if status == "failed" else "retried",
        "gang": _became(before, after),
        "serving_s": serving_s,
        "next": ended["status"],
        "allocated_mib": [[one["allocated_mib"] for one in each] for each in (held, ended["result"]["ranks"])],
        "smi": [smi, _used()],
        "rank_right": on_rank < 0 or loss.get("rank") == on_rank,
    }
    stacks = f"{len(loss.get('stacks') or ())} stacks"
    print(gang.size, what, loss.get("reason"), loss.get("rank"), stacks, known_s, serving_s, seen["gang"], flush=True)
    return seen


def _became(before: dict[str, Any], after: dict[str, Any]) -> str:
    if before["id"] != after["id"]:
        return "replaced"
    return "kept" if before["incarnation"] == after["incarnation"] else "new ranks"


def _timeout(gang: Gang) -> dict[str, Any] | None:
    """Without `no_progress_s` the template's bound for a collective is what ends it."""
    gang.end()
    if gang.size == 1:
        return None
    small = Gang(gang.muster, gang._folder, gang.size, SMALL, name="small")
    small.apply(data_timeout_s=DATA_TIMEOUT_S)
    small.idle()
    what = f"no bound but `data_timeout_s: {DATA_TIMEOUT_S:g}`"
    seen = _tried(_play, small, what, "hang_at_item", gang.size - 1, "")
    small.end()
    return seen


def _report(result: Result, size: int, seen: dict[str, Any]) -> None:
    on = f"{size} GPU{'s' if size > 1 else ''}: "
    if starts := seen["starts"]:
        _report_starts(result, on, starts)
    if share := seen["share"]:
        _report_share(result, on, share)
    if cancels := seen["cancels"]:
        _report_cancels(result, on, cancels, share["step_s"])
    played = [one for one in (*(seen["failures"] or ()), seen["timeout"]) if one]
    right = [one for one in played if one["loss"].get("reason") == one["code"] and one["rank_right"]]
    asked = [one for one in played if one["code"]]
    result.aims.append(
        Aim(
            what=f"{on}failures shown with the right reason and rank, the next request fine",
            aim=f"{len(_cases(size))} of {len(_cases(size))}",
            measured=f"{len(right)} of {len(asked)}",
            met=len(right) == len(asked) == len(_cases(size)),
        )
    )
    result.tables.append((f"{on}failures", FAILURES, [_row(one) for one in played]))


def _report_starts(result: Result, on: str, starts: list[dict[str, Any]]) -> None:
    names = list(starts[0]["phases"])
    rows = [
        (what, *(f"{one['phases'][name]:.2f}" for name in names), f"{one['idle_s']:.1f}")
        for what, one in zip(("the first", "again (with the drain of the old gang)"), starts, strict=True)
    ]
    result.tables.append((f"{on}cold start, seconds", ("", *names, "asked for to idle"), rows))
    links = [(one["link"]["latency_ms"], one["link"]["mb_per_s"], one["link"]["free_mb"]) for one in starts]
    if len(starts[0]["ranks"]) > 1:
        columns = ("latency of a tiny all-reduce, ms", "all-reduce of 64 MiB, MB/s", "free MB")
        result.tables.append((f"{on}preflight over NCCL", columns, links))
    right = all(rank["device"] == f"cuda:{rank['rank']}" for one in starts for rank in one["ranks"])
    result.aims.append(Aim(what=f"{on}rank n has cuda:n", aim="yes", measured="yes" if right else "no", met=right))


def _report_share(result: Result, on: str, share: dict[str, Any]) -> None:
    ranks = share["first"]["ranks"]
    own = all(one["current_device"] == one["local_rank"] == number for number, one in enumerate(ranks))
    own = own and len({one["uuid"] for one in ranks}) == len(ranks)
    own = own and {(one["group"], one["control"]) for one in ranks} == {("nccl", "gloo")}
    shares = [100 * (one["client_s"] - one["inside_s"]) / one["client_s"] for one in share["runs"]]
    first = share["first"]
    result.aims += [
        Aim(
            what=f"{on}seen inside: a GPU for each rank, the one of its number; data group NCCL, control group gloo",
            aim="yes",
            measured="yes" if own else "no",
            met=own,
        ),
        Aim(what=f"{on}weights", aim=">= 10 GB", measured=f"{first['gigabytes']:.2f} GB", met=first["gigabytes"] >= 10),
        Aim(
            what=f"{on}share of Muster in a request of {median([one['client_s'] for one in share['runs']]):.1f} s",
            aim="< 1 %",
            measured=f"{median(shares):.2f} % (most {max(shares):.2f} %)",
            met=max(shares) < 1,
        ),
    ]
    rows = [
        (
            what,
            len(runs),
            spread([one["client_s"] for one in runs]),
            spread([one["inside_s"] for one in runs]),
            spread([1000 * one["inside_s"] / steps for one in runs]),
            spread([1000 * one["before_s"] for one in runs]),
            spread([1000 * one["after_s"] for one in runs]),
        )
        for what, steps, runs in (
            ("`ctx.steps`", share["steps"], share["runs"]),
            ("plain loop, half", share["steps"] // 2, share["plain"]),
        )
    ]
    columns = ("", "n", "POST to answer, s", "inside `run`, s", "a step, ms", "before `run`, ms", "after `run`, ms")
    result.tables.append((f"{on}a request of {share['steps']} steps, median (range)", columns, rows))


def _report_cancels(result: Result, on: str, seen: dict[str, Any], step_s: float) -> None:
    waits, bound = seen["waits"], step_s + SLACK_S
    grown = max(
        abs(after[what] - before[what])
        for before, after in zip(seen["before"], seen["after"], strict=True)
        for what in ("allocated_mib", "reserved_mib")
    )
    grown = max(grown, *(abs(two - one) for one, two in zip(*seen["smi"], strict=True)))
    result.aims += [
        Aim(
            what=f"{on}{len(waits)} cancels: canceled, on the same processes",
            aim=f"{len(waits)}",
            measured=f"{seen['canceled']}" + ("" if seen["same"] else ", other processes"),
            met=seen["canceled"] == len(waits) and seen["same"],
        ),
        Aim(
            what=f"{on}slowest: cancel to the next request's first step",
            aim=f"<= a step ({step_s:.2f}) + {SLACK_S:g} s",
            measured=f"{max(waits):.2f} s (median {median(waits):.2f}, 90 % {quantile(waits, 0.9):.2f})",
            met=max(waits) <= bound,
        ),
        Aim(what=f"{on}GPU memory after them", aim="flat", measured=f"{grown:.0f} MiB apart", met=grown < 64),
    ]
    rows = [
        (
            rank,
            *(f"{one['allocated_mib']:.0f} / {one['reserved_mib']:.0f}" for one in pair),
            *(str(smi[rank]) for smi in seen["smi"]),
        )
        for rank, pair in enumerate(zip(seen["before"], seen["after"], strict=True))
    ]
    columns = ("rank", "torch before (allocated / reserved)", "after", "nvidia-smi before", "after")
    result.tables.append((f"{on}GPU memory around the cancels, MiB", columns, rows))


def _row(one: dict[str, Any]) -> tuple[Any, ...]:
    loss = one["loss"]
    where = f"rank {loss.get('rank')} on {loss.get('node')}, step {loss.get('step')}"
    held = [round(max(pair)) for pair in (*one["allocated_mib"], *one["smi"])]
    return (
        one["what"],
        f"`{loss.get('reason')}` {loss.get('type') or ''}",
        where if one["rank_right"] else f"{where}: **not the one**",
        len(loss.get("stacks") or ()) or "-",
        f"{one['known_s']:.1f}",
        one["became"],
        one["gang"],
        f"{one['serving_s']:.1f}",
        f"{held[0]} / {held[2]}, then {held[1]} / {held[3]}",
    )


def _if(shown: dict[str, Any], what: str) -> dict[str, Any] | None:
    return shown if shown[what] else None


def _smi() -> list[tuple[str, int]]:
    """Name and MiB in use of each GPU."""
    command = ["nvidia-smi", "--query-gpu=name,memory.used", "--format=csv,noheader,nounits"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [(name.strip(), int(used)) for name, _, used in (line.rpartition(",") for line in lines)]


def _used() -> list[int]:
    return [used for _, used in _smi()]


if __name__ == "__main__":
    main()
