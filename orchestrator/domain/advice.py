"""What a person can do about each code of docs/errors.md. Pure; a test holds the page and these tables together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Whose(StrEnum):
    """Whose the fault is: it says who has to do something."""

    USER = "user"
    INFRA = "infra"
    OPERATOR = "operator"


_FAULT = {
    Whose.USER: "the fault lies with the request: its input or its model code",
    Whose.INFRA: "the fault lies with machines or the service, not with the request: Muster tries that again by itself",
    Whose.OPERATOR: "the fault lies with a setting of this installation",
}


@dataclass(frozen=True, kw_only=True)
class Advice:
    whose: Whose
    next: str
    """What to do, in a sentence."""

    @property
    def fault(self) -> str:
        return _FAULT[self.whose]


def of(code: str) -> Advice:
    """For the reason of a request's failure or of a gang's end; also for one that is not known here."""
    return REASONS.get(code, _UNKNOWN)


def _user(next: str) -> Advice:
    return Advice(whose=Whose.USER, next=next)


def _infra(next: str) -> Advice:
    return Advice(whose=Whose.INFRA, next=next)


_AGAIN = "send it again; if it comes back, look at the node that is named"
_START = "read the log of the gang's start, and look at the machines where it was to run"
_UNKNOWN = Advice(whose=Whose.INFRA, next="read its log and the service's log; this code comes from a newer service")

REASONS: Mapping[str, Advice] = {
    "handler_error": _user("read the traceback and the log of the rank, then correct the handler or the input"),
    "invalid_input": _user("correct the input as the message says, and send it again"),
    "input_missing": _user("upload the file again, and send a request that names the new one"),
    "input_corrupt": _infra("upload the file again; if it comes back, the storage damages files: see its disks"),
    "download_failed": _infra("see whether the storage answers from the node that is named, then send it again"),
    "artifact_missing": _user("see that the handler writes every output it announces, on rank 0, before it returns"),
    "bad_output": _user("write outputs only where ctx.output(name) points"),
    "output_too_large": _user("write less, or raise limits.max_output_bytes of the template"),
    "disk_full": _infra("make room on the node that is named, or give the gang another scratch folder"),
    "oom": _user("ask for less (a smaller size, fewer frames), or use more ranks: the memory of the rank did not do"),
    "timeout": _user("send it again with a longer timeout, or ask for less"),
    "setup_failed": _user("read the traceback, correct the setup of the handler, and apply the template"),
    "warmup_failed": _user("read the traceback, and correct the handler or the template's warmup.input"),
    "preflight_failed": _infra("look at the node and rank that are named: a device, memory or a link is not as wanted"),
    "poisoned": _user("read stacks and logs of its attempts: gangs crash while it runs, so it is likely the cause"),
    "deadline": _user("send it again with more time to start (--expire-queued), or let the pool have more gangs"),
    "no_progress": _infra("compare the stacks of the ranks: the one that differs holds the others up"),
    "rank_failed": _infra(_AGAIN),
    "gang_lost": _infra(_AGAIN),
    "lease_expired": _infra("see whether the gang's node reaches the service, then send it again"),
    "superseded": _infra(_AGAIN),
    "unhealthy": _infra(_AGAIN),
    "upload_failed": _infra("see whether the storage answers and has room, then send it again"),
    "recycled": _infra("send it again: its gang was replaced before it ran"),
    "start_timeout": _infra(_START + "; raise limits.start_timeout_s if they need longer"),
    "launch_failed": _infra("read what the backend said: it refused the gang"),
    "namespace_gone": Advice(
        whose=Whose.OPERATOR,
        next="see that the namespace is there and lets Muster in (deploy/team.sh NAMESPACE), then send it again",
    ),
    "no_warm_pool": Advice(
        whose=Whose.OPERATOR,
        next="send it with --mode auto or batch, or have the pool's maximum raised (muster pool set NAME --max 1)",
    ),
    "drained": _infra("nothing: it was asked to go"),
    "idle": _infra("nothing: it had nothing to do for as long as its pool allows"),
    "replaced": _infra("nothing: a newer version of its template took over"),
    "stopped": _infra("nothing: it was stopped on purpose"),
}
"""Why a request failed, or a gang ended."""

CALLS: Mapping[str, str] = {
    "request_id_reused": "choose a new ID for a new request",
    "unknown_parameter": "see docs/rest.md for what the path takes; this client may be newer than the service",
    "unauthorized": "set MUSTER_TOKEN to a token that is good; `muster token create` makes one",
    "forbidden": "use a token with the scope that is named; inside Kubeflow ask the namespace's owner for a role",
    "csrf": "load the page again; a program calls without cookies",
    "no_namespace": "set MUSTER_NAMESPACE, or send the header Muster-Namespace",
    "bad_request": "send HTTP/1.1 as RFC 9112 has it; look at what stands between you and the service",
    "foreign_origin": "call it from a page of its own, or have the operator name that site in MUSTER_HOSTS",
    "not_found": "see `muster ls`, or `ls` of `muster batch`, `schedule`, `pool` and `gang`, for what there is",
    "unknown_template": "see `muster template ls`; `muster template apply FILE` stores one",
    "bad_json": "send strict JSON: UTF-8, no NaN, no key twice",
    "range_not_satisfiable": "ask for bytes that the file has",
    "bad_event_id": "begin without Last-Event-ID, or hand it on as it came",
    "bad_cursor": "begin at the first page, and hand next_cursor on as it came",
    "invalid_input": "correct the fields that are named",
    "invalid_string": "take NUL and lone surrogates out of the string",
    "invalid_template": "correct the template where the pointer says",
    "idempotency_key_reused": "use another key for another body",
    "too_large": "send less, or upload it as a file (`KEY=@FILE`)",
    "unsupported_media_type": "send the body as it is, not compressed",
    "request_timeout": "send it again over a faster line",
    "misdirected": "call the service by its address or own name, or have the operator set MUSTER_HOSTS",
    "head_too_large": "send fewer or shorter headers, or a shorter path",
    "queue_full": "send it again when some of the open requests are done",
    "rate_limited": "send more slowly: Retry-After says when to come again",
    "too_many_waits": "end some of the calls that wait, or ask again without waiting",
    "too_many_uploads": "send it again when some of the others are done",
    "too_many_connections": "try again in a moment, over fewer connections",
    "empty_batch": "send at least one line that is an item (docs/batch.md)",
    "duplicate_custom_id": "give each line a custom_id of its own",
    "too_many_items": "send several batches",
    "too_many_batches": "send it again when one of the open batches is over",
    "url_not_allowed": "upload the lines as a file, or have the operator set MUSTER_BATCH_URLS",
    "batch_over": "`muster batch resume` runs what has not succeeded, once it is over",
    "batch_validating": "pause it in a moment, or cancel it",
    "nothing_to_resume": "send a new batch",
    "item_succeeded": "nothing: it has a result; send a new request for another one",
    "item_not_over": "wait for its end, or cancel it first",
    "never_fires": "correct the rule or the end: no tick is ahead (docs/schedules.md)",
    "schedule_exists": "take another name, or change the one there is: `muster schedule edit NAME`",
    "too_many_schedules": "delete one that is not needed",
    "item_of_batch": "nothing: an item stays as long as its batch",
    "no_warm_pool": "use --mode auto or batch, or have the pool's maximum raised",
    "template_in_use": "wait for its open requests, or cancel them",
    "bad_output": "write outputs only where ctx.output(name) points",
    "not_terminal": "wait for its end, or cancel it first",
    "purged": "nothing: it was deleted",
    "no_own_secret": "make one for this webhook first: POST /v1/webhooks/{id}/rotate",
    "no_webhook_secret": "make the tenant's secret first: POST /v1/webhooks/secret",
    "too_many_webhooks": "delete one that is not needed",
    "webhook_disabled": "enable the webhook first",
    "webhook_url_refused": "give a public https URL, or have the operator allow the place (docs/webhooks.md)",
    "webhooks_off": "have the operator set MUSTER_WEBHOOK_KEYS",
    "output_expired": "run the request again: its outputs were kept as long as agreed",
    "internal": "report it with what the service's log says of it",
    "integrity": "run the request again: its stored output was damaged",
    "unavailable": "try again in a moment; `muster doctor` looks closer",
    "stale_lease": "nothing: the lease is over",
    "result_exists": "nothing: another result was first",
    "gang_gone": "nothing: the gang is over",
    "gang_superseded": "nothing: the gang has a newer incarnation",
}
"""Why a call was refused."""
