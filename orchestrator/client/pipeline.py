"""A step of Kubeflow Pipelines (deploy/pipelines): submit, wait, hand on; on SIGTERM cancel what it waits for.

    python -m orchestrator.client.pipeline request|batch --executor-input '{{$}}'

The idempotency key follows from the run, the task and what is asked for. A step that dies and is run again finds what
it submitted; what ended without success by then is tried again, once for each time that the step is run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, NoReturn

from orchestrator.client.batches import Batch
from orchestrator.client.client import Client
from orchestrator.client.pipeline_words import Step
from orchestrator.client.request_records import Request
from orchestrator.client.saving import safe_name
from orchestrator.errors import Invalid, MusterError, NotFound

log = logging.getLogger("muster.pipeline")

EVERY, LOOK = timedelta(seconds=20), timedelta(seconds=2)
PATIENCE = timedelta(minutes=15)
"""How long a step outlives a service that does not answer; then the next try of the step goes on."""
TERMINATED = 128 + signal.SIGTERM


class Terminated(BaseException):
    """SIGTERM: the run was ended."""


class Unsuccessful(Exception):
    """It ended, and not well; says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """0, 1 with the cause on standard error, or 143 after SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.client.pipeline", description=__doc__)
    parser.add_argument("kind", choices=sorted(_KINDS))
    parser.add_argument("--executor-input", required=True, help="'{{$}}' in the component")
    asked = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s muster: %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        step = Step.read(asked.executor_input)
        with Client.from_env(str(step.parameters.get("url") or "") or None) as client:
            _KINDS[asked.kind](client, step)
        step.write()
    except Terminated:
        return TERMINATED
    except Unsuccessful as error:
        log.error("%s", error)
        return 1
    except MusterError as error:
        log.error("%s: %s", error.code, error.message)
        return 1
    return 0


# ---------------------------------------------------------------------------------------------------------- request


def run_request(client: Client, step: Step) -> None:
    """Raises Unsuccessful, with the cause."""
    said = step.parameters
    terms: dict[str, Any] = {
        "mode": said.get("mode") or "auto",
        "priority": said.get("priority") or 0,
        "timeout": timedelta(seconds=said["timeout_s"]) if said.get("timeout_s") else None,
        "labels": said.get("labels") or None,
    }
    key = key_of(said, {"input": said.get("input") or {}, **terms})

    def submit() -> Request:
        found = client.submit(_required(said, "template"), said.get("input") or {}, idempotency_key=key, **terms)
        while found.is_terminal and not found.succeeded:  # of an earlier run of this step, and so on
            log.info("%s is %s: once more", found.id, found.status)
            found = client.retry(found.id, idempotency_key=f"{key}-{found.id}")
        return found

    with canceling(submit, lambda request: client.cancel(request.id)) as request:
        log.info("request %s of %s", request.id, request.template)
        ended = _stayed(client, request)
    if not ended.succeeded:
        raise Unsuccessful(_cause(ended))
    _hand_on(client, step, ended)
    log.info("%s succeeded", ended.id)


def _stayed(client: Client, request: Request) -> Request:
    """The end of it; says on the way how far it is, when that changes."""
    last = None
    for request in client.watch(request.id, every=EVERY, patience=PATIENCE):  # noqa: B020 - the newest
        progress = request.progress
        at = (request.status, progress.phase if progress else request.waiting)
        if at != last:
            log.info("%s: %s", request.status, at[1] or "")
            last = at
    return request


def _cause(request: Request) -> str:
    error = request.error
    where = f" (rank {error.rank} on {error.node})" if error and error.rank is not None else ""
    what = f": {error.code}: {error.message}{where}" if error else ""
    return f"{request.id} is {request.status}{what}; `muster explain {request.id}` says more"


def _hand_on(client: Client, step: Step, request: Request) -> None:
    gang = request.placement.gang if request.placement else None
    step.give(request_id=request.id, gang=_name_of(client, gang), result=request.result or {})
    if "outputs" not in step.artifacts:
        return
    outputs = client.outputs(request.id)
    where = f"{client.url}/v1/requests/{request.id}/outputs"
    files = [
        {"name": one.name, "media_type": one.media_type, "bytes": one.bytes, "sha256": one.sha256} for one in outputs
    ]
    copied = step.parameters.get("copy_outputs", True)
    for one in outputs if copied else ():
        client.save_output(request.id, one, step.path("outputs") / safe_name(one.name))
    metadata = {"muster_request": request.id, "muster_url": where, "files": files}
    step.describe("outputs", metadata, uri=None if copied else where)


def _name_of(client: Client, gang: str | None) -> str:
    """On Kubeflow the name of its PyTorchJob; a gang that is forgotten already is known by its ID."""
    try:
        return (client.gang(gang).name or gang) if gang else ""
    except MusterError:
        return gang or ""


# ------------------------------------------------------------------------------------------------------------ batch


def run_batch(client: Client, step: Step) -> None:
    """Raises Unsuccessful, with the cause."""
    said = step.parameters
    terms: dict[str, Any] = {
        name: said[name] for name in ("max_parallel", "max_failed", "priority", "labels") if said.get(name)
    }
    items, url = said.get("items") or [], said.get("storage_url") or None
    if bool(items) == bool(url):
        raise Invalid("give either items or storage_url", code="invalid_input")
    key = key_of(said, {"items": items, "storage_url": url, **terms})

    def submit() -> Batch:
        template = _required(said, "template")
        if url:
            found = client.batches.submit_named(template, url=url, idempotency_key=key, **terms)
        else:
            found = client.batches.submit(template, items, idempotency_key=key, **terms)
        if found.is_terminal and not _good(found, said):
            log.info("%s is %s: what did not succeed once more", found.id, found.status)
            found = client.batches.resume(found.id)
        return found

    with canceling(submit, lambda batch: client.batches.cancel(batch.id)) as batch:
        log.info("batch %s of %s", batch.id, batch.template)
        *_, batch = client.batches.watch(batch.id, every=LOOK, patience=PATIENCE)
    step.give(batch_id=batch.id, outcome=batch.outcome or batch.status, counts=dict(batch.raw.get("counts") or {}))
    if not _good(batch, said):
        counts = f"{batch.counts.succeeded} of {batch.counts.total} items succeeded"
        raise Unsuccessful(f"{batch.id} is {batch.status}: {batch.reason or counts}; `muster batch errors {batch.id}`")
    _hand_on_results(client, step, batch)


def _good(batch: Batch, said: Any) -> bool:
    allowed = ("all_succeeded", "partial") if said.get("allow_partial") else ("all_succeeded",)
    return batch.status == "completed" and batch.outcome in allowed


def _hand_on_results(client: Client, step: Step, batch: Batch) -> None:
    if "results" not in step.artifacts:
        return
    path = step.path("results")
    path.parent.mkdir(parents=True, exist_ok=True)
    with client.batches.results(batch.id) as chunks, path.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)
    url = f"{client.url}/v1/batches/{batch.id}"
    step.describe("results", {"muster_batch": batch.id, "muster_url": url, "succeeded": batch.counts.succeeded})


# ------------------------------------------------------------------------------------------------------------- both


@contextmanager
def canceling(submit: Callable[[], Any], cancel: Callable[[Any], Any]) -> Iterator[Any]:
    """What `submit` gives; on SIGTERM it is canceled, and Terminated raised.

    Also if SIGTERM comes while it is being submitted: the key tells what became of it.
    """
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        submitted = None
        try:
            submitted = submit()
            yield submitted
        except Terminated:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            submitted = submitted or submit()
            log.info("SIGTERM: canceling %s", submitted.id)
            with suppress(NotFound):
                cancel(submitted)
            raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(*_: object) -> NoReturn:
    raise Terminated


def key_of(said: Any, asked: Any) -> str:
    """The same for each time that a step of a run is tried; another for what differs in what is asked for."""
    run, task = str(said.get("run_id") or ""), str(said.get("task") or "")
    if not run or "{{" in run:
        raise Invalid("run_id is not known: give run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER", code="no_run_id")
    whole = json.dumps([run, task, said.get("template"), asked], sort_keys=True, default=str)
    return f"kfp-{hashlib.sha256(whole.encode()).hexdigest()[:40]}"


def _required(said: Any, name: str) -> str:
    if not said.get(name):
        raise Invalid(f"the parameter {name} is missing", code="invalid_input")
    return str(said[name])


_KINDS: dict[str, Callable[[Client, Step], None]] = {"request": run_request, "batch": run_batch}

if __name__ == "__main__":
    sys.exit(main())
