"""The Python client of Muster's REST API.

    from orchestrator.client import Client

    with Client.from_env() as muster:
        request = muster.submit("digits", {"digit": 3})
        request = muster.wait(request.id)
        print(request.status, request.result)
        muster.download(request.id, "digit.gif", "pictures")

Speaks docs/rest.md with httpx; knows nothing of the service's rooms but the error tree. Everything that it raises on
purpose is a `MusterError`; `problem_of(error)` gives the problem document that the service sent with it.
"""

from orchestrator.client.batches import Batch, BatchCounts, Batches
from orchestrator.client.client import Client, Readiness, Token
from orchestrator.client.connection import Connection, find
from orchestrator.client.explaining import Cause, Explanation, Finding, Step
from orchestrator.client.fleet import Gang, Pool, Rank, Replica, Template
from orchestrator.client.problems import problem_of
from orchestrator.client.records import Page
from orchestrator.client.request_records import (
    Event,
    Failure,
    File,
    LogChunk,
    Output,
    Placement,
    Progress,
    Request,
    Validation,
)
from orchestrator.client.schedules import Fire, Schedule, Schedules
from orchestrator.client.streaming import Update
from orchestrator.client.webhooks import Delivery, Webhook, Webhooks, WebhookSecret

__all__ = [
    "Batch",
    "BatchCounts",
    "Batches",
    "Cause",
    "Client",
    "Connection",
    "Delivery",
    "Event",
    "Explanation",
    "Failure",
    "File",
    "Finding",
    "Fire",
    "Gang",
    "LogChunk",
    "Output",
    "Page",
    "Placement",
    "Pool",
    "Progress",
    "Rank",
    "Readiness",
    "Replica",
    "Request",
    "Schedule",
    "Schedules",
    "Step",
    "Template",
    "Token",
    "Update",
    "Validation",
    "Webhook",
    "WebhookSecret",
    "Webhooks",
    "find",
    "problem_of",
]
