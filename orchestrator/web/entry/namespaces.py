"""Inside Kubeflow: the namespaces that the user may see, with what is open in each."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from orchestrator.api import gateway
from orchestrator.errors import NotFound
from orchestrator.store import tenants
from orchestrator.web.frame.choosing import is_inside, visible
from orchestrator.web.frame.rendering import page
from orchestrator.web.frame.visiting import Here

router = APIRouter()


@router.get("/namespaces")
async def namespaces(request: Request, here: Here) -> Response:
    if not is_inside(request):
        raise NotFound("there is no page of this address")
    user = gateway.user_of(request.headers, here.settings)
    names = await visible(here, user)
    open_ = await here.look(lambda tx: tenants.open_of(tx, names))
    return page(request, "namespaces.html", None, names=names, open=open_, user=user.name)
