"""Templates: where they lie, what they may call, and that whatever is not ours is shown as text.

All values are escaped, and before that made harmless: control and bidi characters of names, logs and inputs are spelt
out (`domain.text.safe_lines`). A field that is edited takes `| exact`, which escapes and changes nothing.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from orchestrator.api import csrf, gateway
from orchestrator.domain import text
from orchestrator.store import arrivals
from orchestrator.web.frame import ids, legible
from orchestrator.web.frame.choosing import chosen, is_inside
from orchestrator.web.frame.visiting import Visitor, keep_proof, office, prefix_of, proof

PAGES = "/ui"
"""Where the pages are, below the prefix of the site."""
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self';"
    " connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
THEMES = ("auto", "light", "dark")


def page(request: Request, name: str, visitor: Visitor | None, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A whole page from `templates/<name>`."""
    answer = HTMLResponse(
        _environment().get_template(name).render(**surroundings(request, visitor), **values, http_status=status),
        status_code=status,
        headers=HEADERS,
    )
    keep_proof(request, answer)
    return answer


def fragment(base: str, visitor: Visitor, name: str, **values: Any) -> Markup:
    """A part of a page, the same for all visitors who may do the same: nothing of a single browser is in it."""
    rendered = _environment().get_template(name).render(base=base, visitor=visitor, **values)
    return Markup(rendered)  # noqa: S704 - a template made it, which escapes


def surroundings(request: Request, visitor: Visitor | None) -> dict[str, Any]:
    """What every page needs. `namespace`: inside Kubeflow's dashboard, that of the page."""
    namespace = (visitor.tenant if visitor else chosen(request)) if is_inside(request) else None
    return {
        "base": base_of(request),
        "visitor": visitor,
        "sent": {csrf.HEADER: proof(request)} | ({gateway.NAMESPACE: namespace} if namespace else {}),
        "inside": is_inside(request),
        "namespace": namespace,
        "theme": theme_of(request),
        "here": request.url.path.removeprefix(PAGES),
    }


def base_of(request: Request) -> str:
    """What the paths of all pages begin with, as the browser sees them."""
    return prefix_of(request) + PAGES


def origin_of(request: Request) -> str:
    """Where programs reach the service, as far as a page can know."""
    here = office(request)
    return here.settings.public_url.rstrip("/") or f"{request.url.scheme}://{request.url.netloc}"


def theme_of(request: Request) -> str:
    asked = request.cookies.get("muster_theme", "auto")
    return asked if asked in THEMES else "auto"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("orchestrator.web"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "when": when,
        "span": lambda seconds: "" if seconds is None else text.duration(float(seconds)),
        "clock": lambda seconds: "" if seconds is None else text.clock(float(seconds)),
        "size": lambda amount: "" if amount is None else text.size(int(amount)),
        "count": lambda number: f"{number:,}".replace(",", "\u202f"),
        "percent": lambda fraction: f"{100 * fraction:.0f}%",
        "pretty": legible.shown,
        "terminal": text.uncoloured,
        "coming": arrivals.coming,
        "linked": linked,
        "short": ids.short,
        "exact": lambda value: Markup(escape(value)),  # noqa: S704 - escaped
    }
    environment.globals["asset"] = asset
    return environment


def _shown(value: Any) -> Any:
    """Every value on its way into a page."""
    match value:
        case None:
            return ""
        case Markup():
            return value
        case str():
            return text.safe_lines(value)
    return value


def when(moment: datetime | str | None) -> Markup:
    """A moment; `muster.js` writes it in the viewer's zone, and how long ago it was."""
    if moment is None:
        return Markup("")
    written = moment if isinstance(moment, str) else moment.isoformat().replace("+00:00", "Z")
    return Markup('<time datetime="{}">{}</time>').format(written, written[:19].replace("T", " ") + " UTC")


_THINGS = re.compile(r"\b(req|gng|bat)_[0-9a-hjkmnp-tv-z]{26}\b")
_PLACES = {"req": "requests", "gng": "gangs", "bat": "batches"}


def linked(sentence: str, base: str) -> Markup:
    """A sentence of ours in which every ID leads to its page; short, as lists show it."""
    link = Markup('<a class="mono" href="{}/{}/{}" title="{}">{}</a>')
    parts, at = [], 0
    for found in _THINGS.finditer(sentence):
        parts.append(escape(_shown(sentence[at : found.start()])))
        parts.append(link.format(base, _PLACES[found[1]], found[0], found[0], ids.short(found[0])))
        at = found.end()
    return Markup("").join([*parts, escape(_shown(sentence[at:]))])


@cache
def asset(name: str) -> str:
    """The path of a static file below the pages', with what is in it: it may be kept for good."""
    content = resources.files("orchestrator.web").joinpath("static", name).read_bytes()
    return f"/static/{name}?v={hashlib.sha256(content).hexdigest()[:12]}"
