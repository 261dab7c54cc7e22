"""What `muster` answers to the shell. Scripts live by these numbers: they are only ever added to."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from orchestrator.errors import Conflict, Forbidden, Invalid, MusterError, NotFound, Unauthorized, Unavailable

if TYPE_CHECKING:
    from orchestrator.client import Batch, Request


class ExitCode(IntEnum):
    """The exit codes of every `muster` command.

    ===  ============  ==============================================================================
      0  OK            done; with --wait: the request succeeded
      1  FAILED        the request failed by its own fault (input or handler), or the move was refused
      2  USAGE         the command line, a file or the input cannot be accepted; nothing was stored
      3  INFRA         the request failed by the fault of machines or of the service, retries included
      4  CANCELED      the request was canceled
      5  EXPIRED       the request was not started in time
      6  NOT_FOUND     no such thing (or it is somebody else's)
      7  UNAUTHORIZED  no token, an unknown token, or one without the scope
      8  UNREACHABLE   the service does not answer, or not as Muster does
      9  UNFINISHED    the time given to --wait or --timeout is over, the request still runs
     10  PARTIAL       some items of the batch succeeded, and some did not
    130  INTERRUPTED   Ctrl-C; a request that was waited for goes on
    141  CLOSED        the reader of our output went away (`muster ls | head -1`)
    ===  ============  ==============================================================================
    """

    OK = 0
    FAILED = 1
    USAGE = 2
    INFRA = 3
    CANCELED = 4
    EXPIRED = 5
    NOT_FOUND = 6
    UNAUTHORIZED = 7
    UNREACHABLE = 8
    UNFINISHED = 9
    PARTIAL = 10
    INTERRUPTED = 130
    CLOSED = 141


def of_error(error: MusterError) -> ExitCode:
    match error:
        case NotFound():
            return ExitCode.NOT_FOUND
        case Unauthorized() | Forbidden():
            return ExitCode.UNAUTHORIZED
        case Unavailable():
            return ExitCode.UNREACHABLE
        case Invalid():
            return ExitCode.USAGE
        case Conflict():
            return ExitCode.FAILED
        case _:
            return ExitCode.INFRA


def of_request(request: Request) -> ExitCode:
    """A failure that the service calls retryable was not the request's fault: its retries are used up."""
    match request.status:
        case "succeeded":
            return ExitCode.OK
        case "canceled":
            return ExitCode.CANCELED
        case "expired":
            return ExitCode.EXPIRED
        case "failed":
            return ExitCode.INFRA if request.error and request.error.retryable else ExitCode.FAILED
        case _:
            return ExitCode.UNFINISHED


def of_batch(batch: Batch) -> ExitCode:
    """Of one that completed by its outcome; of one that ended before by how it did."""
    match batch.status:
        case "completed" if batch.outcome == "all_succeeded":
            return ExitCode.OK
        case "completed" if batch.outcome == "partial":
            return ExitCode.PARTIAL
        case "canceled":
            return ExitCode.CANCELED
        case "expired":
            return ExitCode.EXPIRED
        case "failed" if batch.reason_code in ("no_gang", "namespace_gone"):
            return ExitCode.INFRA
        case "completed" | "failed":
            return ExitCode.FAILED
        case _:
            return ExitCode.UNFINISHED
