"""`muster template render`: what a template becomes on Kubernetes, without a cluster and without a service.

The same pure functions as the service's; only what it knows at launch (names, the token, the job's UID) is made up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import output
from orchestrator.cli.session import Session, common, pass_session

if TYPE_CHECKING:
    from job_templates.pytorchjob import Gang

API_URL = "http://muster-workers.muster-system.svc:8381"
MADE_UP_ID = "gng_" + 26 * "0"
MADE_UP_UID = "00000000-0000-0000-0000-000000000000"


@click.command(no_args_is_help=True)
@click.argument("file", metavar="FILE")
@click.option(
    "--mode",
    type=click.Choice(["serve", "batch"]),
    default="serve",
    show_default=True,
    help="A gang that is kept, or one that ends with its work.",
)
@click.option("--namespace", default="default", show_default=True, help="Where the objects are to be.")
@click.option("--image", help="Instead of the template's.")
@click.option("--registered", is_flag=True, help="FILE names a template of the service: its current version.")
@common
@pass_session
def render(session: Session, file: str, mode: str, namespace: str, image: str | None, registered: bool) -> None:
    """Print the Kubernetes objects of one gang as YAML: the PyTorchJob, its Secret, its disruption budget.

    FILE is YAML, or the name of a template that comes with Muster. Names, token and UID are made up; all else is what
    the service would create.

    \b
    Examples:
      muster template render wan21-t2v-14b-2x8 --mode batch
      muster template render my-model.yaml --namespace team-a | kubectl apply --dry-run=server -f -
    """
    document = _registered(session, file) if registered else _from_file(file)
    gang = _gang({**document, **({"image": image} if image else {})}, mode, namespace)
    _print(session, _objects(gang))


def _registered(session: Session, name: str) -> dict[str, Any]:
    with session.connect() as client:
        return dict(client.template(name).spec or {})


def _from_file(file: str) -> dict[str, Any]:
    from orchestrator.cli.template_files import read_template

    return read_template(file)


def _gang(document: dict[str, Any], mode: str, namespace: str) -> Gang:
    """Raises Invalid for a document that is no template, or cannot be a pod."""
    from job_templates.pytorchjob import Gang
    from orchestrator.domain.template import read

    template = read(document)
    return Gang(
        id=MADE_UP_ID,
        name=f"m-{mode[0]}-{template.name[:28].rstrip('-')}-example",
        namespace=namespace,
        mode=mode,
        template=template,
        api_urls=(API_URL,),
    )


def _objects(gang: Gang) -> list[dict[str, Any]]:
    from job_templates.pytorchjob import disruption_budget, job, token_secret

    budget = disruption_budget(gang, MADE_UP_UID)
    return [job(gang), token_secret(gang, "made-up", MADE_UP_UID), *([budget] if budget else [])]


def _print(session: Session, objects: list[dict[str, Any]]) -> None:
    import yaml

    if session.json:
        output.listing(objects)
    else:
        output.lines(yaml.safe_dump_all(objects, sort_keys=False, allow_unicode=True, width=120))
