"""Makes the places that the settings name. Backends and job templates do not know each other; here they meet."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from job_templates import pytorchjob
from job_templates.pytorchjob import Gang
from orchestrator.backends.base import Backend, LaunchSpec
from orchestrator.backends.kubeflow_names import place_of
from orchestrator.backends.local import LocalBackend
from orchestrator.backends.places import Places
from orchestrator.domain.access import Question, Reviews
from orchestrator.domain.ids import gang_name, new_id
from orchestrator.domain.template import Template
from orchestrator.errors import BackendError, Invalid
from orchestrator.settings import Settings

if TYPE_CHECKING:
    from orchestrator.backends.kubeflow import KubeflowBackend
    from orchestrator.backends.kubeflow_wall import Kube

log = logging.getLogger("muster.place")

_HEALS = frozenset({"backend_unavailable", "throttled"})
"""What does not keep a replica from starting: warm gangs need no Kubernetes API."""


def places_of(settings: Settings) -> Places:
    """Raises Invalid for a backend that does not exist, BackendError for one that cannot work.

    A namespace of one tenant that does not let us in keeps nobody else from starting.
    """
    match settings.backend:
        case "local":
            return Places(LocalBackend(settings.folder / "gangs"))
        case "kubeflow":
            return _namespaces(settings)
    raise Invalid(f"no backend {settings.backend!r}; there are local and kubeflow (MUSTER_BACKEND)")


def _namespaces(settings: Settings) -> Places:
    """The namespaces of one cluster, over the same connections."""
    kube = _connection(settings)
    home, *own = [backend for _, backend in _opened(settings, kube)]
    _check(home)
    for backend in own:
        try:
            _check(backend)
        except BackendError as error:
            said = {"action": "backend_failed", "place": backend.name}
            log.warning("no gangs can be launched at %s: %s", backend.name, error.message, extra=said)

    def reopen(name: str) -> Backend | None:
        place = place_of(name)
        return _namespace(settings, kube, *place) if place else None

    return Places(home, dict(zip(settings.gang_namespaces, own, strict=True)), reopen)


def _connection(settings: Settings) -> Kube:
    from orchestrator.backends.kubeflow_wall import Kube  # starting without it costs nothing of it

    return Kube(settings.kubeconfig)


def _opened(settings: Settings, kube: Kube) -> Iterator[tuple[str, KubeflowBackend]]:
    """By namespace: of those who have none of their own, then each tenant's own."""
    for namespace in (settings.namespace, *settings.gang_namespaces):
        yield namespace, _namespace(settings, kube, namespace, settings.installation)


def _namespace(settings: Settings, kube: Kube, namespace: str, installation: str) -> KubeflowBackend:
    from orchestrator.backends.kubeflow import KubeflowBackend

    manifests = PyTorchJobs(
        namespace=namespace, installation=installation, image=settings.image, page=settings.gang_page
    )
    return KubeflowBackend(manifests, namespace=namespace, installation=installation, kube=kube, resync=settings.resync)


def _check(backend: KubeflowBackend) -> None:
    """Raises BackendError for what does not heal by itself."""
    try:
        backend.check()
    except BackendError as error:
        if error.code not in _HEALS:
            raise
        said = {"action": "backend_failed", "place": backend.name}
        log.warning("gangs cannot be launched for now: %s", error.message, extra=said)


def inspect(settings: Settings) -> Iterator[tuple[str, BackendError | None]]:
    """Each namespace in which gangs run, and why none can there. Raises BackendError without credentials."""
    for namespace, backend in _opened(settings, _connection(settings)):
        try:
            backend.check()
        except BackendError as error:
            yield namespace, error
        else:
            yield namespace, None


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
