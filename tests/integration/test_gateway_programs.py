"""Programs that come through Kubeflow's gateway, with the token of a ServiceAccount: the client, the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import gateway_house
import pytest
from gateway_house import ECHO, GATEWAY, House
from kubeflow_site import Site, site
from reviewing import EDIT, VIEW

from orchestrator.client import Client
from orchestrator.errors import Invalid, MusterError
from orchestrator.store.database import Database

ACCOUNT = "system:serviceaccount:team-a:default-editor"


@pytest.fixture(scope="module")
def house(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with gateway_house.house(shared_database, tmp_path_factory.mktemp("programs")) as here:
        here.reviews.bind(ACCOUNT, "team-a", *EDIT)
        here.reviews.bind(ACCOUNT, "team-b", *VIEW)
        yield here


@pytest.fixture(scope="module")
def kubeflow(house: House) -> Iterator[Site]:
    with site(house.doors["gateway"], GATEWAY, ("team-a", "team-b"), {"good": ACCOUNT}.get) as there:
        yield there


@pytest.mark.parametrize("prefix", ["/muster", "/muster/", "/muster/api"])
def test_the_client_works_below_a_path(kubeflow: Site, prefix: str) -> None:
    with Client(kubeflow.url + prefix, "good") as client:
        client.apply_template({"name": "echo", **ECHO})
        made = client.submit("echo", {"n": 1}, mode="batch")
        assert client.get(made.id).id == made.id
        assert [one.id for one in client.list(limit=1).data] == [made.id]
        assert client.cancel(made.id).id == made.id


def test_the_client_calls_for_the_namespace_that_it_was_told(kubeflow: Site) -> None:
    with Client(kubeflow.url + "/muster", "good", namespace="team-b") as client:
        assert client.templates() == ()
        with pytest.raises(MusterError) as refused:
            client.submit("echo", {})
        assert refused.value.code == "forbidden"


def test_a_token_that_the_gateway_does_not_know_is_refused_by_it(kubeflow: Site) -> None:
    with Client(kubeflow.url + "/muster", "bad", retries=0) as client, pytest.raises(MusterError):
        client.templates()


def test_a_namespace_that_can_be_none_is_never_sent(kubeflow: Site) -> None:
    with pytest.raises(Invalid, match="MUSTER_NAMESPACE"):
        Client(kubeflow.url, "good", namespace="a\r\nX: y")


def test_the_command_line_needs_an_address_a_token_and_a_namespace(kubeflow: Site) -> None:
    def muster(*arguments: str, namespace: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "MUSTER_URL": kubeflow.url + "/muster",
            "MUSTER_TOKEN": "good",
            "MUSTER_NAMESPACE": namespace,
        }
        command = [sys.executable, "-m", "orchestrator.cli.main", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    with Client(kubeflow.url + "/muster", "good") as client:
        client.apply_template({"name": "of-cli", **ECHO})
    done = muster("submit", "of-cli", "--mode", "batch", "--json", namespace="team-a")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)["id"]
    assert muster("cancel", made, "--no-wait", namespace="team-a").returncode == 0
    refused = muster("submit", "of-cli", namespace="team-b")
    assert refused.returncode == 7, refused.stderr
    assert "may not create PyTorchJobs in the namespace 'team-b'" in refused.stderr
