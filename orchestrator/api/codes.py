"""Every problem `code` that the public API may answer: its status and an example. docs/errors.md says what to do.

Codes that only workers see are not here: their API is documented in docs/protocol.md.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Code:
    """`says` is an example of the `detail`."""

    status: int
    says: str


CODES: dict[str, Code] = {
    "bad_request": Code(status=400, says="this is not HTTP/1.1 as RFC 9112 has it"),
    "bad_json": Code(status=400, says="the body is not JSON: Expecting value at character 0"),
    "bad_event_id": Code(status=400, says="this Last-Event-ID was not given here: start without one"),
    "bad_cursor": Code(status=400, says="this cursor was not made here"),
    "unauthorized": Code(status=401, says="this token is unknown, expired or revoked"),
    "forbidden": Code(status=403, says="this token lacks the scope `submit`"),
    "foreign_origin": Code(status=403, says="pages of other sites may not call this service"),
    "csrf": Code(status=403, says="the cookie XSRF-TOKEN must be repeated as X-XSRF-TOKEN: load the page again"),
    "not_found": Code(status=404, says="no request 'req_01kb3m8w5n4qv2d7x9r1t6y0ze'"),
    "unknown_template": Code(status=404, says="no template 'digits'; `muster template ls` shows what there is"),
    "request_timeout": Code(status=408, says="nothing of the body came for 30 s"),
    "no_warm_pool": Code(status=409, says="template 'digits' keeps no warm gangs (pool max is 0)"),
    "batch_over": Code(status=409, says="batch bat_01kb3m8w5n4qv2d7x9r1t6y0ze is completed: it cannot be paused"),
    "batch_validating": Code(
        status=409, says="the lines of batch bat_01kb3m8w5n4qv2d7x9r1t6y0ze are still looked at: none has started"
    ),
    "nothing_to_resume": Code(status=409, says="all items of the batch have succeeded, or it has none"),
    "item_succeeded": Code(status=409, says="item 'shot-001' has succeeded"),
    "item_not_over": Code(status=409, says="item 'shot-001' is running: it is tried already"),
    "schedule_exists": Code(status=409, says="there is a schedule 'nightly': change or delete it"),
    "too_many_schedules": Code(status=409, says="a tenant has at most 500 schedules; delete one"),
    "item_of_batch": Code(status=409, says="request req_01kb3m8w5n4qv2d7x9r1t6y0ze is an item: its batch needs it"),
    "template_in_use": Code(status=409, says="template 'digits' has open requests; cancel them or let them finish"),
    "not_terminal": Code(
        status=409, says="request req_01kb3m8w5n4qv2d7x9r1t6y0ze is running: cancel it or let it end first"
    ),
    "purged": Code(status=410, says="request req_01kb3m8w5n4qv2d7x9r1t6y0ze was deleted"),
    "output_expired": Code(status=410, says="output 'video.mp4' was kept until 2026-11-01T00:00:00Z and is deleted"),
    "no_webhook_secret": Code(
        status=409, says="hooks of single requests are signed with the tenant's secret: make one"
    ),
    "no_own_secret": Code(status=409, says="the hook of a request is signed with the tenant's secret"),
    "webhook_disabled": Code(status=409, says="the webhook is disabled (the receiver answered 410 Gone): enable it"),
    "webhooks_off": Code(status=409, says="this installation has no MUSTER_WEBHOOK_KEYS, so nothing can be signed"),
    "too_many_webhooks": Code(status=409, says="a tenant has at most 20 webhooks; delete one"),
    "too_large": Code(status=413, says="the body is larger than 1048576 bytes"),
    "too_many_items": Code(status=413, says="a batch has at most 100000 items: send several"),
    "unsupported_media_type": Code(status=415, says="compressed bodies are not accepted"),
    "misdirected": Code(status=421, says="no service of this name is here: see MUSTER_HOSTS"),
    "range_not_satisfiable": Code(status=416, says="output 'image.png' has 100 bytes: Range asks for none of them"),
    "no_namespace": Code(status=422, says="say for which namespace you call, in the header Muster-Namespace"),
    "invalid_input": Code(status=422, says="/input/digit: 12 is greater than the maximum of 9"),
    "invalid_string": Code(status=422, says="a string holds a lone surrogate, which is no character"),
    "never_fires": Code(status=422, says="/cron: '0 0 30 2 *' never fires: no month has such a day"),
    "empty_batch": Code(status=422, says="there is no line in it"),
    "duplicate_custom_id": Code(status=422, says="line 7: /custom_id: 'shot-001' stands in line 3 already"),
    "url_not_allowed": Code(status=422, says="/url: not below what the operator allows: s3://inputs/"),
    "invalid_template": Code(status=422, says="/nodes: Input should be greater than or equal to 1"),
    "idempotency_key_reused": Code(status=422, says="Idempotency-Key 'k1' was used with another body"),
    "too_many_batches": Code(status=429, says="this tenant has 100 open batches, which is all it may have"),
    "queue_full": Code(status=429, says="50000 requests wait for this template, which is all that may"),
    "rate_limited": Code(status=429, says="more than 50 submits per second"),
    "too_many_waits": Code(status=429, says="1000 calls of this tenant are waiting on this replica"),
    "too_many_uploads": Code(status=429, says="64 uploads of this tenant are under way here"),
    "head_too_large": Code(status=431, says="the head is larger than 16384 bytes"),
    "request_id_reused": Code(
        status=422, says="req_01kb3m8w5n4qv2d7x9r1t6y0ze cannot be given to this request: the ID was used before"
    ),
    "webhook_url_refused": Code(status=422, says="/url: 10.0.0.1 is not a public address"),
    "unknown_parameter": Code(status=422, says="no parameter 'colour' here; there are: cursor, limit, status"),
    "internal": Code(status=500, says="an internal error; it is in the service's log"),
    "integrity": Code(status=500, says="output 'image.png' is not what was published: it is gone or has another size"),
    "unavailable": Code(status=503, says="the database does not answer; nothing was changed: try again"),
    "too_many_connections": Code(status=503, says="this replica has all the connections it takes; try again"),
}
OF_THE_CONNECTION = (
    "bad_request",
    "foreign_origin",
    "request_timeout",
    "misdirected",
    "head_too_large",
    "too_many_connections",
)
"""Of all operations: a call is answered so before anything else is known of it."""
EVERYWHERE = ("unauthorized", "forbidden", "csrf", "no_namespace", "unknown_parameter", "internal", "unavailable")
"""Of operations that need a token, or a user of Kubeflow's gateway."""
WITH_PARAMETERS = ("invalid_input",)
WITH_JSON = ("bad_json", "too_large", "unsupported_media_type", "invalid_input", "invalid_string")
"""Of operations that read a JSON body."""
