"""The `pod:` section: an allow-list, and nothing else gets from a template into a manifest."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.catalog import read_template
from orchestrator.domain.template import Template
from orchestrator.errors import Invalid

GOOD: dict[str, Any] = {"name": "digits", "handler": "samples.digits:Digits"}


def pod(**section: Any) -> Template:
    return read_template(GOOD | {"pod": section})


@pytest.mark.parametrize(
    ("section", "pointer"),
    [
        ({"hostPath": "/"}, "/pod/hostPath"),
        ({"host_network": True}, "/pod/host_network"),
        ({"security_context": {"privileged": True}}, "/pod/security_context"),
        ({"patch": []}, "/pod/patch"),
        ({"command": ["sh"]}, "/pod/command"),
        ({"init_containers": []}, "/pod/init_containers"),
        ({"resources": {"gpus": "8"}}, "/pod/resources/gpus"),
        ({"resources": {"gpus": -1}}, "/pod/resources/gpus"),
        ({"resources": {"gpus": True}}, "/pod/resources/gpus"),
        ({"resources": {"memory": "lots"}}, "/pod/resources/memory"),
        ({"resources": {"memory": "-1Gi"}}, "/pod/resources/memory"),
        ({"resources": {"cpu": "0"}}, "/pod/resources/cpu"),
        ({"resources": {"gpu_resource": "cpu"}}, "/pod/resources/gpu_resource"),
        ({"volumes": [{"host_path": "/", "mount_path": "/host"}]}, "/pod/volumes/0/pvc"),
        ({"volumes": [{"pvc": "w", "mount_path": "models"}]}, "/pod/volumes/0/mount_path"),
        ({"volumes": [{"pvc": "w", "mount_path": "/"}]}, "/pod/volumes/0/mount_path"),
        ({"volumes": [{"pvc": "w", "mount_path": "/var"}]}, "/pod/volumes/0/mount_path"),
        ({"volumes": [{"pvc": "w", "mount_path": "/var/run/muster"}]}, "/pod/volumes/0/mount_path"),
        ({"volumes": [{"pvc": "w", "mount_path": "/tmp/../etc"}]}, "/pod/volumes/0/mount_path"),
        ({"volumes": [{"pvc": "w", "mount_path": "/dev/shm"}]}, "/pod/volumes/0/mount_path"),
        ({"volumes": [{"pvc": "w", "mount_path": "/m", "sub_path": "../other"}]}, "/pod/volumes/0/sub_path"),
        ({"volumes": [{"pvc": "w", "mount_path": "/m", "sub_path": "/abs"}]}, "/pod/volumes/0/sub_path"),
        ({"volumes": [{"pvc": "w/../x", "mount_path": "/m"}]}, "/pod/volumes/0/pvc"),
        ({"volumes": [{"pvc": "a", "mount_path": "/m"}, {"pvc": "b", "mount_path": "/m"}]}, "/pod/volumes"),
        ({"tolerations": [{"operator": "Exists"}]}, "/pod/tolerations/0/key"),
        ({"tolerations": [{"key": "a", "operator": "Exists", "value": "x"}]}, "/pod/tolerations/0"),
        ({"tolerations": [{"key": "a", "toleration_seconds": 5}]}, "/pod/tolerations/0"),
        ({"node_selector": {"bad key": "x"}}, "/pod/node_selector/bad key/[key]"),
        ({"node_selector": {"k": "not a value"}}, "/pod/node_selector/k"),
        ({"spread": "racks"}, "/pod/spread"),
        ({"priority_class": "Upper"}, "/pod/priority_class"),
        ({"queue": "a b"}, "/pod/queue"),
        ({"queue_priority": "high"}, "/pod"),
        ({"image_pull_secrets": "registry"}, "/pod/image_pull_secrets"),
        ({"user": 0}, "/pod/user"),
        ({"group": 0}, "/pod/group"),
        ({"secret_env": {"X": {"secret": "s"}}}, "/pod/secret_env/X/key"),
    ],
)
def test_what_is_not_on_the_list_is_refused_with_its_place(section: dict[str, Any], pointer: str) -> None:
    with pytest.raises(Invalid) as refused:
        pod(**section)
    assert refused.value.pointer == pointer


@pytest.mark.parametrize(
    "key",
    [
        "muster/gang-id",
        "x.muster/y",
        "training.kubeflow.org/job-name",
        "kueue.x-k8s.io/queue-name",
        "sidecar.istio.io/inject",
        "app.kubernetes.io/name",
        "container.apparmor.security.beta.kubernetes.io/pytorch",
    ],
)
@pytest.mark.parametrize("field", ["labels", "annotations"])
def test_keys_of_muster_and_of_the_cluster_are_reserved(field: str, key: str) -> None:
    with pytest.raises(Invalid, match="are set by Muster or by the cluster") as refused:
        pod(**{field: {key: "x"}})
    assert refused.value.pointer == f"/pod/{field}"


@pytest.mark.parametrize("key", ["team", "example.com/team", "notmuster/x", "my-kubernetes.io/x"])
def test_other_keys_are_free(key: str) -> None:
    assert pod(labels={key: "x"}).pod.labels == {key: "x"}


def test_secrets_of_the_namespace_may_be_variables_but_not_those_of_muster() -> None:
    held = {"secret": "s3", "key": "id"}
    assert pod(secret_env={"AWS_ACCESS_KEY_ID": held}).pod.secret_env["AWS_ACCESS_KEY_ID"].secret == "s3"
    with pytest.raises(Invalid, match="MUSTER_TOKEN"):
        pod(secret_env={"MUSTER_TOKEN": held})
    with pytest.raises(Invalid, match="as well"):
        read_template(GOOD | {"env": {"X": "1"}, "pod": {"secret_env": {"X": held}}})


@pytest.mark.parametrize(("written", "read"), [(32, "32"), (0.5, "0.5"), ("500m", "500m"), ("4", "4")])
def test_cpu_may_be_written_as_a_number(written: object, read: str) -> None:
    assert pod(resources={"cpu": written}).pod.resources.cpu == read


def test_what_is_stored_is_read_back_and_says_only_what_was_said() -> None:
    section = {"resources": {"gpus": 8}, "volumes": [{"pvc": "w", "mount_path": "/models"}]}
    template = pod(**section)
    assert template.spec["pod"] == section
    assert Template.model_validate(template.spec) == template


@pytest.mark.parametrize(
    ("document", "digest"),
    [
        (GOOD, "d2ed23fd4e938f4e99d50d654d7b8f9017312628633cca16041d1bfb2592a871"),
        (
            {
                "name": "wan",
                "script": {
                    "path": "/srv/wan/generate.py",
                    "gang_args": ["task"],
                    "outputs": {"save_file": "video.mp4"},
                },
                "args": {"task": "t2v-14B"},
                "nodes": 2,
                "warmup": {"input": {"prompt": "x"}},
                "preflight": {"timeout_s": 60},
            },
            "6979ccc23b37f8c649dabb66f6e6f842e43f0208a8cc51ff563d537348cb83fc",
        ),
    ],
)
def test_a_template_of_an_older_muster_keeps_its_digest(document: dict[str, Any], digest: str) -> None:
    """Digests as they were before the sections `pod` and `geometry`; another one would replace every gang."""
    assert Template.model_validate(document).digest.hex() == digest
    assert Template.model_validate(document | {"pod": {}, "geometry": []}).digest.hex() == digest
