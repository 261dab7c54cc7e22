"""The life of a ready gang: rank 0 asks for work and reports, all ranks run it. One loop for each of the two parts.

Returns the exit code. Knows the order of things; how each is done is elsewhere.
"""

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

from inference.attempt import Attempt, Stop
from inference.control import Control, Frame, Kind
from inference.environment import Environment
from inference.faults import Code, Exit, Fault, is_disk_full
from inference.publish import ArtifactMissing, OutputTooLarge, UploadFailed
from inference.run import Ending, Outcome, Runner
from inference.service import Refused, Service, Stale
from inference.shipping import Shipping
from inference.spans import Spans
from inference.work import Assignment, Config, Work, encode, without_token


class Orphaned(Exception):
    """Idle, and no answer of the service for so long that nobody can own this gang."""


class Unhealthy(Exception):
    """The groups could not be rebuilt: the gang must restart."""


class Leader:
    """Rank 0, of each replica."""

    def __init__(
        self, environment: Environment, config: Config, service: Service, shipping: Shipping, runner: Runner
    ) -> None:
        self._environment = environment
        self._config = config
        self._service = service
        self._shipping = shipping
        self._runner = runner
        self._control = runner.control
        self._spans = Spans.if_asked({"muster.gang.id": environment.gang, "muster.node": environment.node})

    def serve(self) -> int:
        assignment: Assignment | None = None
        try:
            while True:
                if assignment is None or assignment.is_empty:
                    assignment = self._poll()
                if assignment.leases:
                    assignment = self._serve_one(assignment.leases[0])
                elif assignment.drain:
                    return self._stop(Exit.DRAINED)
                else:
                    self._tell_alive()  # a dead peer surfaces within one poll
        except Orphaned:
            self._runner.life.left = True
            return self._stop(Exit.DRAINED)
        except Unhealthy:
            return self._stop(Exit.POISONED)

    def _poll(self) -> Assignment:
        return Assignment.of(self._service.work(self._config.poll_s, meanwhile=self._stay_owned))

    def _serve_one(self, lease: dict[str, Any]) -> Assignment | None:
        """None: ask anew."""
        self._control.send(Frame(kind=Kind.WORK, body=without_token(lease)))
        attempt = Attempt(Work.of(lease))
        self._shipping.capture.turn_to(attempt.work.request)
        ending = self._publish(attempt, self._runner.run(attempt))
        body = encode(self._result(attempt, *ending))
        if self._spans is not None:
            self._spans.tell(attempt, ending[0].outcome)
        self._runner.rest()
        self._shipping.request_ended(attempt.work.request, wait=True)
        assignment = None if attempt.stop is Stop.REVOKED else self._finish(attempt.work, body)
        self._forget_checkpoints(attempt, ending[0])
        if not ending[0].healthy:
            raise Unhealthy
        return assignment

    def _forget_checkpoints(self, attempt: Attempt, ending: Ending) -> None:
        """After the service has the end: whatever is infrastructure's fault goes on from them."""
        final = ending.outcome is not Outcome.FAILED or (ending.fault is not None and ending.fault.code in _FINAL)
        if not final or attempt.stop is Stop.REVOKED or not self._runner.context._checkpointed:
            return
        with suppress(Exception):  # each filesystem has errors of its own; litter is not worth a request
            self._runner.context._checkpoints.remove_all()

    def _publish(self, attempt: Attempt, ending: Ending) -> tuple[Ending, list[dict[str, Any]]]:
        """A success that cannot show its outputs is a failure."""
        outputs = self._runner.context._outputs
        try:
            if ending.outcome is not Outcome.SUCCEEDED:
                return ending, []
            attempt.progress.enter("publish")
            attempt.at_end = False  # from here this rank alone is watched
            work = attempt.work
            return ending, outputs.publish(work.output_prefix, attempt.progress.touch, work.max_output_bytes)
        except (ArtifactMissing, OutputTooLarge, UploadFailed) as error:
            fault = Fault.of(
                error,
                rank=self._environment.rank,
                node=self._environment.node,
                phase="publish",
                step=attempt.progress.current,
            )
            fault = replace(fault, code=_publish_code(error))
            return replace(ending, outcome=Outcome.FAILED, value=None, fault=fault), []
        finally:
            outputs.discard()

    def _result(self, attempt: Attempt, ending: Ending, outputs: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "token": attempt.work.token,
            "slot": self._environment.replica.number,
            "outcome": ending.outcome.value,
            "result": ending.value,
            "outputs": outputs,
            "error": ending.fault.as_error() if ending.fault else None,
            "metrics": self._runner.context._metrics,
            "run_s": round(ending.run_s, 6),
            "healthy": ending.healthy,
            "trail": attempt.progress.trail(),
        }

    def _finish(self, work: Work, body: bytes) -> Assignment | None:
        """Held until answered, however long the service is away."""
        try:
            return Assignment.of(self._service.finish(work.attempt, body, meanwhile=self._tell_alive))
        except (Stale, Refused) as error:
            _say(f"{work.request}: {error}")
            if isinstance(error, Stale) and error.code != Code.BAD_OUTPUT:
                return None  # another attempt has it, or the service has the end
            instead = _refused(body, error, self._environment)  # too large, say: the request fails, not the gang
        try:
            return Assignment.of(self._service.finish(work.attempt, instead, meanwhile=self._tell_alive))
        except (Stale, Refused) as error:
            _say(f"{work.request}: {error}")
            return None

    def _tell_alive(self) -> None:
        self._control.send(Frame(kind=Kind.NOOP))

    def _stay_owned(self) -> None:
        if self._service.silent_s > self._environment.orphan_s:
            raise Orphaned
        self._tell_alive()

    def _stop(self, code: Exit) -> int:
        self._control.send(Frame(kind=Kind.STOP, body=encode({"exit": int(code)})))
        if self._spans is not None:
            self._spans.close()
        return int(code)


_FINAL = (
    Code.HANDLER_ERROR,
    Code.INVALID_INPUT,
    Code.INPUT_MISSING,
    Code.OOM,
    Code.TIMEOUT,
    Code.ARTIFACT_MISSING,
    Code.OUTPUT_TOO_LARGE,
    Code.BAD_OUTPUT,
)


def _publish_code(error: Exception) -> Code:
    match error:
        case ArtifactMissing():
            return Code.ARTIFACT_MISSING
        case OutputTooLarge():
            return Code.OUTPUT_TOO_LARGE
        case _:
            return Code.DISK_FULL if is_disk_full(error.__cause__) else Code.UPLOAD_FAILED


def _say(words: str) -> None:
    print(f"muster: the service did not take the end of {words}", flush=True)  # noqa: T201 (the rank's log)


_KEPT = ("token", "slot", "run_s", "healthy", "trail")


def _refused(body: bytes, error: Stale | Refused, here: Environment) -> bytes:
    """The finish that says that the service would not take the finish."""
    message = f"the service refused the result: {error}"
    code = Code.BAD_OUTPUT if error.code == Code.BAD_OUTPUT else Code.HANDLER_ERROR
    fault = Fault(code=code, type="Refused", message=message, rank=here.rank, node=here.node, phase="finish")
    kept = {name: value for name, value in json.loads(body).items() if name in _KEPT}
    nothing: dict[str, Any] = {"result": None, "outputs": [], "metrics": {}}
    return encode({**kept, **nothing, "outcome": Outcome.FAILED, "error": fault.as_error()})


def follow(control: Control, runner: Runner, shipping: Shipping) -> int:
    """Every rank but 0."""
    while True:
        frame = control.receive()
        match frame.kind:
            case Kind.WORK:
                _follow_one(Attempt(Work.of(json.loads(frame.body))), runner, shipping)
            case Kind.STOP:
                return int(json.loads(frame.body)["exit"])
            case _:
                continue


def _follow_one(attempt: Attempt, runner: Runner, shipping: Shipping) -> None:
    shipping.capture.turn_to(attempt.work.request)
    runner.run(attempt)
    runner.context._outputs.discard()
    runner.rest()
    shipping.request_ended(attempt.work.request, wait=False)
