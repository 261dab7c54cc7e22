"""Plain HTTP to the API server for tests and stand-ins: paths in, dicts out. Shares no code with the product."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx

Json = dict[str, Any]

PATHS = {
    "pytorchjobs": "/apis/kubeflow.org/v1",
    "poddisruptionbudgets": "/apis/policy/v1beta1",
}
ALL_KINDS = ("pytorchjobs", "pods", "services", "secrets", "poddisruptionbudgets")


class Refused(Exception):
    """The API server answered with an error."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class Api:
    """As one user; safe for many threads."""

    def __init__(self, url: str, token: str) -> None:
        self._client = httpx.Client(
            base_url=url,
            verify=False,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(10, read=30),
            limits=httpx.Limits(max_connections=200, max_keepalive_connections=20),
        )

    def call(self, method: str, path: str, body: Json | None = None, **query: Any) -> Json:
        """Raises Refused, or httpx.TransportError."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        answer = self._client.request(
            method,
            path,
            params=query,
            content=json.dumps(body) if body is not None else None,
            headers={"Content-Type": kind},
        )
        content = answer.json() if "json" in answer.headers.get("content-type", "") else {"text": answer.text}
        if answer.status_code >= 300:
            raise Refused(answer.status_code, content.get("reason", ""), content.get("message", answer.text))
        return content

    def get(self, kind: str, namespace: str, name: str) -> Json | None:
        try:
            return self.call("GET", f"{place(kind, namespace)}/{name}")
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    def list(self, kind: str, namespace: str = "", **query: Any) -> list[Json]:
        return list(self.call("GET", place(kind, namespace), **query)["items"])

    def create(self, kind: str, namespace: str, body: Json) -> Json:
        return self.call("POST", place(kind, namespace), body)

    def patch(self, kind: str, namespace: str, name: str, body: Json, subresource: str = "") -> Json:
        return self.call("PATCH", f"{place(kind, namespace)}/{name}{subresource}", body)

    def delete(self, kind: str, namespace: str, name: str, **options: Any) -> None:
        """Unknown names are no error."""
        try:
            self.call("DELETE", f"{place(kind, namespace)}/{name}", options or None)
        except Refused as refused:
            if refused.status not in (404, 409):
                raise

    def watch(self, kind: str, version: str, namespace: str = "", **query: Any) -> Iterator[Json]:
        """Events from that version on, until the server ends the watch. Raises like call()."""
        query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": 600, **query}
        with self._client.stream(
            "GET", place(kind, namespace), params=query, timeout=httpx.Timeout(10, read=None)
        ) as lines:
            if lines.status_code != 200:
                raise Refused(lines.status_code, "", lines.read().decode())
            for line in lines.iter_lines():
                yield json.loads(line)

    def close(self) -> None:
        self._client.close()


def place(kind: str, namespace: str = "") -> str:
    """Where objects of a kind lie; without a namespace those of all."""
    root = PATHS.get(kind, "/api/v1")
    return f"{root}/namespaces/{namespace}/{kind}" if namespace else f"{root}/{kind}"


def label(thing: Json, name: str) -> str:
    return str(thing["metadata"].get("labels", {}).get(name, ""))


def owner_of(thing: Json) -> str:
    """UID of the controller, or nothing."""
    owners = thing["metadata"].get("ownerReferences", [])
    return next((str(owner["uid"]) for owner in owners if owner.get("controller")), "")
