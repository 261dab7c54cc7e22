"""Asks the API server what a user may do to PyTorchJobs (SubjectAccessReview): one question, one call, no memory.

It must not know what the answer is good for, nor who is believed to be a user.
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.backends.kubeflow_wall import Json, Kube, Refused
from orchestrator.domain.access import Question, User
from orchestrator.errors import BackendError

PATH = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
READ_S = 5.0
_NOBODY = Question(user=User(name="system:anonymous", groups=()), namespace="default", verb="get")


class KubeReviews:
    """For many threads."""

    def __init__(self, kubeconfig: Path | None) -> None:
        """Raises BackendError where there are no credentials."""
        self._kube = Kube(kubeconfig)

    def check(self) -> None:
        """Whether we may ask at all. Raises BackendError that says what to do."""
        try:
            self.allowed(_NOBODY)
        except Refused as refused:
            if refused.code != "forbidden":
                raise
            words = "We may not create SubjectAccessReviews: apply deploy/overlays/kubeflow/identity.yaml."
            raise BackendError(words, code="forbidden") from refused

    def allowed(self, question: Question) -> bool:
        answer = self._kube.call("POST", PATH, _review(question), read_s=READ_S)
        status = answer.get("status", {})
        return status.get("allowed") is True and not status.get("denied")

    def close(self) -> None:
        self._kube.close()


def _review(question: Question) -> Json:
    attributes = {
        "group": "kubeflow.org",
        "version": "v1",
        "resource": "pytorchjobs",
        "namespace": question.namespace,
        "verb": question.verb,
    }
    user = {"user": question.user.name, "groups": list(question.user.groups)}
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {**user, "resourceAttributes": attributes},
    }
