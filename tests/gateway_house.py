"""One replica with all its doors, and an API server that it asks what users may do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import declared
import httpx
from reviewing import Reviewing, reviewing
from scripted_backend import ScriptedBackend

from orchestrator.backends.places import Places
from orchestrator.service.replica import replica
from orchestrator.settings import Settings
from orchestrator.store import tokens
from orchestrator.store.database import Database
from orchestrator.store.tokens import Scope

GATEWAY = "cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account"
BY = 'By=spiffe://cluster.local/ns/muster-system/sa/muster;Hash=0f;Subject="";URI=spiffe://'
THROUGH = {"x-forwarded-client-cert": f"{BY}{GATEWAY}"}
WORK = f"/internal/v1/gangs/gng_{'0' * 26}/work"
ECHO = {"handler": "samples.echo:Echo"}


@dataclass
class House:
    """`doors`: base URLs by name."""

    reviews: Reviewing
    doors: dict[str, str]
    database: Database

    def at(self, door: str, **headers: str) -> httpx.Client:
        return httpx.Client(base_url=self.doors[door], headers=headers, timeout=30)

    def user(self, name: str, namespace: str | None = None, **headers: str) -> httpx.Client:
        """Somebody who comes through the gateway by a program of theirs."""
        said = {"kubeflow-userid": name, **THROUGH, **({"Muster-Namespace": namespace} if namespace else {})}
        client = self.at("gateway", **said, **headers)
        client.event_hooks = {"response": [_as_declared]}
        return client

    def token(self, tenant: str = "default", *scopes: Scope) -> str:
        return self.database.transact(
            lambda tx: tokens.create(tx, tenant=tenant, name="t", scopes=scopes or list(Scope))[1]
        )


def _as_declared(answer: httpx.Response) -> None:
    if answer.request.url.path.startswith("/v1"):
        declared.check(answer)


@contextmanager
def house(database: Database, folder: Path) -> Iterator[House]:
    """Over an API server that answers reviews alone."""
    with (
        reviewing() as reviews,
        opened(
            database, reviews, Settings(folder=folder, kubeconfig=reviews.kubeconfig(folder), gateway_namespaces=("*",))
        ) as here,
    ):
        yield here


@contextmanager
def opened(database: Database, reviews: Reviewing, settings: Settings) -> Iterator[House]:
    """With these settings, all doors and the gateway's principal. Gangs are written down and not started."""
    doors = {"port": 0, "worker_port": 0, "gateway_port": 0}
    settings = replace(
        settings, database_url=database.url, gateway_principal=GATEWAY, page_prefix="/muster", hosts=("*",), **doors
    )
    backend = ScriptedBackend()
    with (
        mock.patch("orchestrator.service.replica.places_of", lambda _: Places(backend)),
        replica(settings, database) as (url, desk, _),
    ):
        there = desk.settings
        ports = {name: f"http://127.0.0.1:{getattr(there, f'{name}_port')}" for name in ("worker", "gateway")}
        yield House(reviews=reviews, doors={"public": url, **ports}, database=database)
