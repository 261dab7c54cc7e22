"""Which namespace a page of Kubeflow's Central Dashboard is about, and which there are to choose from.

The picker is the dashboard's; `static/dashboard.js` hears of it and keeps the choice in a cookie. Tabs share the cookie
and not the choice, so a page that is there already says its own namespace with every call, and that goes before.
What is asked for is only a wish: whether the user may see it is Kubernetes' word.
"""

from __future__ import annotations

from fastapi import Request

from orchestrator.api import access, gateway
from orchestrator.api.doors import Door, door_of
from orchestrator.api.office import Office
from orchestrator.domain.access import User, is_namespace
from orchestrator.errors import MusterError
from orchestrator.store import tenants

COOKIE = "muster_namespace"
IN_ADDRESS = "namespace"
"""Where no header can be sent: event streams."""
ALL = access.ANY


class Undecided(MusterError):
    """The page is about one namespace, and the user has chosen all of them."""


def is_inside(request: Request) -> bool:
    """Whether the page stands in the dashboard: it was asked for through the gateway's door."""
    return door_of(request.scope) is Door.GATEWAY


def chosen(request: Request) -> str | None:
    """A namespace, ALL, or nothing that makes sense."""
    asked = request.headers.get(gateway.NAMESPACE) or request.query_params.get(IN_ADDRESS)
    wish = asked or request.cookies.get(COOKIE, "")
    return wish if wish == ALL or is_namespace(wish) else None


async def visible(here: Office, user: User) -> tuple[str, ...]:
    """The namespaces that the user may list, sorted. Raises Unavailable."""
    known = await here.look(lambda tx: tenants.names(tx, access.MOST_NAMESPACES))
    return await here.access.visible(user, known)
