"""What a manifest is made of, and the names that everything of one gang carries on Kubernetes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.domain.template import Template
from orchestrator.errors import Invalid

LABEL_NAME = "app.kubernetes.io/name"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
NAME = MANAGED_BY = "muster"
LABEL_INSTALLATION = "muster/installation"
LABEL_GANG = "muster/gang-id"
LABEL_MODE = "muster/mode"
LABEL_TEMPLATE = "muster/template"
ANNOTATION_SPEC_HASH = "muster/spec-hash"
ANNOTATION_URL = "muster/url"
LABEL_JOB_NAME = "training.kubeflow.org/job-name"
"""Set by the operator on the pods and services of a job."""
LABEL_REPLICA_INDEX = "training.kubeflow.org/replica-index"

CONTAINER = "pytorch"
"""Fixed by the operator's webhook."""
RENDEZVOUS_PORT = 29400
TOKEN_FOLDER = "/var/run/muster"  # noqa: S105 - a path
TOKEN_KEY = "token"  # noqa: S105 - a name

_GANG_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class Gang:
    """One gang to be. `name` is never used for a second one; `lead` is a link to our page about it."""

    id: str
    name: str
    namespace: str
    mode: str  # "serve" | "batch"
    template: Template
    api_urls: tuple[str, ...]
    lead: str | None = None
    installation: str = "muster"
    """Tells the objects of two installations in one cluster apart."""

    def __post_init__(self) -> None:
        """Raises Invalid for what Kubernetes would refuse, or accept and never start."""
        if not _GANG_NAME.fullmatch(self.name):
            raise Invalid(f"gang name {self.name!r}: a letter, then at most 39 of a-z, 0-9 and -")
        if not _NAMESPACE.fullmatch(self.namespace):
            raise Invalid(f"{self.namespace!r} is no name of a namespace")
        for value in (self.id, self.installation):
            if not _LABEL_VALUE.fullmatch(value):
                raise Invalid(f"{value!r} cannot be the value of a label")
        if self.mode not in ("serve", "batch"):
            raise Invalid(f"no mode {self.mode!r}; there are serve and batch")
        if not self.template.image:
            raise Invalid(f"template {self.template.name} has no `image`: pods need one", pointer="/image")

    @property
    def serves(self) -> bool:
        return self.mode == "serve"

    @property
    def labels(self) -> dict[str, str]:
        """On every object of the gang."""
        return {
            LABEL_NAME: NAME,
            LABEL_MANAGED_BY: MANAGED_BY,
            LABEL_INSTALLATION: self.installation,
            LABEL_GANG: self.id,
            LABEL_MODE: self.mode,
            LABEL_TEMPLATE: self.template.name,
        }

    @property
    def token_secret(self) -> str:
        """Name of the Secret with the gang token."""
        return f"{self.name}-token"
