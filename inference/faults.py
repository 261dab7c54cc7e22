"""What can go wrong on a rank, said in the protocol's words: exit codes, error codes, and which rank is to blame.

Pure but for reading an exception. Does not post, does not exit.
"""

import errno
import traceback
from dataclasses import asdict, dataclass
from enum import IntEnum, StrEnum
from typing import Any, Self

from inference.checkpoint import CheckpointFailed
from inference.inputs import DownloadFailed, InputCorrupt, InputMissing

TRACEBACK_BYTES = 6000  # the tail: the raising line is at the end
MESSAGE_BYTES = 2000


class Exit(IntEnum):
    """Exit codes of a rank, docs/protocol.md."""

    DRAINED = 0
    CONFIGURATION = 80
    SETUP_FAILED = 81
    OVER = 82
    POISONED = 83
    NO_PROGRESS = 84
    SUPERSEDED = 85
    HARD_STOP = 86
    SIGNALED = 143


FINAL = (Exit.CONFIGURATION, Exit.SETUP_FAILED, Exit.OVER)
"""Codes of a rank that must not come back: inference.agent ends the gang. After all others torchrun starts anew."""


class Code(StrEnum):
    """`error.code` of a finish."""

    INVALID_INPUT = "invalid_input"
    INPUT_MISSING = "input_missing"
    INPUT_CORRUPT = "input_corrupt"
    DOWNLOAD_FAILED = "download_failed"
    HANDLER_ERROR = "handler_error"
    OOM = "oom"
    TIMEOUT = "timeout"
    ARTIFACT_MISSING = "artifact_missing"
    OUTPUT_TOO_LARGE = "output_too_large"
    DISK_FULL = "disk_full"
    UPLOAD_FAILED = "upload_failed"
    BAD_OUTPUT = "bad_output"
    NO_PROGRESS = "no_progress"
    RANK_FAILED = "rank_failed"


class Stopped(BaseException):
    """All ranks agreed to stop this attempt. Not an Exception, so that a handler's `except Exception` lets it pass."""


class Canceled(Stopped):
    """Raised by `ctx.steps` on all ranks at the same step after a cancel (or when the lease is over)."""


class TimedOut(Stopped):
    """Raised by `ctx.steps` on all ranks at the same step after the deadline."""


class PeerFailed(Stopped):
    """Another rank failed or left the loop; this rank only stops because of it."""


class InvalidInput(Exception):
    """The input does not fit the handler's `Input`. The same on every rank."""


class ControlBroken(Exception):
    """The control group failed: a peer is gone. Only a restart makes the gang whole."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Why an attempt failed on one rank."""

    code: str
    message: str
    rank: int
    node: str
    type: str
    traceback: str = ""
    phase: str = ""
    step: int = 0
    communication: bool = False  # raised by a collective: a peer's death or absence looks like this

    @classmethod
    def of(cls, error: BaseException, *, rank: int, node: str, phase: str, step: int) -> Self:
        return cls(
            code=_code(error),
            message=(str(error) or type(error).__name__)[:MESSAGE_BYTES],
            rank=rank,
            node=node,
            type=type(error).__name__,
            traceback="".join(traceback.format_exception(error))[-TRACEBACK_BYTES:],
            phase=phase,
            step=step,
            communication=is_communication(error),
        )

    def as_error(self) -> dict[str, Any]:
        """The `error` object of a finish."""
        return {key: value for key, value in asdict(self).items() if key != "communication"}


def root_cause(faults: list[Fault]) -> Fault:
    """The fault that explains the others: a rank's own error before a broken collective before a mere follower."""
    return min(faults, key=lambda fault: (fault.type == PeerFailed.__name__, fault.communication, fault.rank))


def _code(error: BaseException) -> Code:
    if isinstance(error, InvalidInput):
        return Code.INVALID_INPUT
    if isinstance(error, PeerFailed) or is_communication(error):
        return Code.RANK_FAILED
    if is_out_of_memory(error):
        return Code.OOM
    if isinstance(error, CheckpointFailed):
        return Code.UPLOAD_FAILED
    if isinstance(error, InputMissing):
        return Code.INPUT_MISSING
    if isinstance(error, InputCorrupt):
        return Code.INPUT_CORRUPT
    if isinstance(error, DownloadFailed):
        return Code.DOWNLOAD_FAILED
    if is_disk_full(error):
        return Code.DISK_FULL
    return Code.HANDLER_ERROR


def is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def is_disk_full(error: BaseException | None) -> bool:
    """No room, no quota, or over the process's file size limit."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_communication(error: BaseException) -> bool:
    """NCCL and c10d have classes of their own; gloo raises a RuntimeError that names its source file."""
    if isinstance(error, ControlBroken) or any(kind.__name__ == "DistError" for kind in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in ("gloo/", "Gloo ", "NCCL"))
