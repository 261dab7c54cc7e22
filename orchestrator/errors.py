"""Every error that Muster raises on purpose.

    MusterError
    ├── NotFound            the thing named does not exist (or is another tenant's)
    ├── Conflict            the state of the thing forbids the move
    │   └── StaleLease      a worker speaks for a lease or incarnation that is over
    ├── Invalid             what the caller sent cannot be accepted; nothing was stored
    ├── Unauthorized        no token, or one that is not known
    ├── Forbidden           a good token without the scope
    ├── TooMany             too often or too much at once; nothing was stored
    │   └── QueueFull       no room for another request
    ├── Unavailable         try again later; nothing was stored
    └── BackendError        the place where gangs run refused or did not answer

A class exists only if someone catches it differently. `code` is stable and documented in docs/errors.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class MusterError(Exception):
    """An error whose text names the thing and the remedy."""

    code = "internal"

    def __init__(self, message: str, *, code: str | None = None, pointer: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.pointer = pointer
        if code is not None:
            self.code = code


class NotFound(MusterError):
    code = "not_found"


class Conflict(MusterError):
    code = "conflict"


class StaleLease(Conflict):
    code = "stale_lease"


class Invalid(MusterError):
    code = "invalid_input"
    listed: Sequence[Mapping[str, str]] = ()
    """Where several things are wrong: a pointer, a code and a message for each of the first ones."""


class Unauthorized(MusterError):
    code = "unauthorized"


class Forbidden(MusterError):
    code = "forbidden"


class Unavailable(MusterError):
    code = "unavailable"


class TooMany(MusterError):
    """`retry_after_s`: when another try makes sense."""

    code = "rate_limited"

    def __init__(self, message: str, *, code: str | None = None, retry_after_s: float = 1.0) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class QueueFull(TooMany):
    code = "queue_full"


class BackendError(MusterError):
    code = "backend_error"
