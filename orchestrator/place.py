"""Makes the backend that the settings name. Backends and job templates do not know each other; here they meet."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

from job_templates import pytorchjob
from job_templates.pytorchjob import Gang
from orchestrator.backends.base import Backend, LaunchSpec
from orchestrator.backends.local import LocalBackend
from orchestrator.domain.access import Question, Reviews
from orchestrator.domain.ids import gang_name, new_id
from orchestrator.domain.template import Template
from orchestrator.errors import BackendError, Invalid
from orchestrator.settings import Settings

log = logging.getLogger("muster.place")

_HEALS = frozenset({"backend_unavailable", "throttled"})
"""What does not keep a replica from starting: warm gangs need no Kubernetes API."""


def backend_of(settings: Settings) -> Backend:
    """Raises Invalid for one that does not exist, BackendError for one that cannot work."""
    match settings.backend:
        case "local":
            return LocalBackend(settings.folder / "gangs")
        case "kubeflow":
            return _kubeflow(settings)
    raise Invalid(f"no backend {settings.backend!r}; there are local and kubeflow (MUSTER_BACKEND)")


def _kubeflow(settings: Settings) -> Backend:
    from orchestrator.backends.kubeflow import KubeflowBackend  # starting without it costs nothing of it

    backend = KubeflowBackend(
        PyTorchJobs(
            namespace=settings.namespace,
            installation=settings.installation,
            image=settings.image,
            page=settings.gang_page,
        ),
        namespace=settings.namespace,
        installation=settings.installation,
        kubeconfig=settings.kubeconfig,
        resync=settings.resync,
    )
    try:
        backend.check()
    except BackendError as error:
        if error.code not in _HEALS:
            raise
        log.warning("gangs cannot be launched for now: %s", error.message, extra={"action": "backend_failed"})
    return backend


def reviews_of(settings: Settings) -> Reviews | None:
    """Who says what users of Kubeflow's gateway may do; None where it has no door.

    Raises BackendError where nobody ever could.
    """
    if settings.gateway_port is None:
        return None
    if settings.disable_auth:
        return Everything()
    from orchestrator.backends.kubeflow_reviews import KubeReviews  # starting without it costs nothing of it

    reviews = KubeReviews(settings.kubeconfig)
    try:
        reviews.check()
    except BackendError as error:
        if error.code not in _HEALS:
            raise
        log.warning("users of the gateway are refused for now: %s", error.message, extra={"action": "review_failed"})
    return reviews


class Everything:
    """Says yes to everybody (MUSTER_DISABLE_AUTH)."""

    def allowed(self, question: Question) -> bool:
        return True


def rehearse(backend: Backend, settings: Settings, template: Template) -> None:
    """Whether gangs of the template would be taken, with none started. Raises Invalid.

    A backend that cannot say stands in nobody's way.
    """
    for mode in ("serve", "batch"):
        spec = LaunchSpec(
            gang=new_id("gng"),
            name=gang_name(template.name, mode),
            mode=mode,
            nodes=template.nodes,
            ranks_per_node=template.ranks_per_node,
            api_urls=settings.api_urls,
            token="",
            template=template.spec,
        )
        try:
            backend.rehearse(spec)
        except BackendError as error:
            if error.code == "rejected":
                raise Invalid(f"a {mode} gang would be refused: {error.message}", code="invalid_template") from error
            said = {"action": "rehearse_failed", "template": template.name}
            log.warning("%s was not rehearsed: %s", template.name, error.message, extra=said)
            return


@dataclass(frozen=True, kw_only=True)
class PyTorchJobs:
    """The manifests of job_templates, for the backend."""

    namespace: str
    installation: str
    image: str | None = None
    """Of templates that name none."""
    page: str | None = None
    """URL of our page about a gang, with {gang} for its ID."""

    def job(self, spec: LaunchSpec) -> dict[str, Any]:
        return pytorchjob.job(self._gang(spec))

    def token_secret(self, spec: LaunchSpec, owner_uid: str) -> dict[str, Any]:
        return pytorchjob.token_secret(self._gang(spec), spec.token, owner_uid)

    def disruption_budget(self, spec: LaunchSpec, owner_uid: str) -> dict[str, Any] | None:
        return pytorchjob.disruption_budget(self._gang(spec), owner_uid)

    def _gang(self, spec: LaunchSpec) -> Gang:
        """Raises BackendError "rejected" for what Kubernetes would refuse, or take and never start."""
        try:
            return Gang(
                id=spec.gang,
                name=spec.name,
                namespace=self.namespace,
                mode=spec.mode,
                template=self._template(spec),
                api_urls=spec.api_urls,
                installation=self.installation,
                lead=self.page.replace("{gang}", spec.gang) if self.page else None,
            )
        except Invalid as error:
            raise BackendError(error.message, code="rejected") from error

    def _template(self, spec: LaunchSpec) -> Template:
        template = Template.model_validate_json(json.dumps(dict(spec.template)))
        return template if template.image else template.model_copy(update={"image": self.image})
