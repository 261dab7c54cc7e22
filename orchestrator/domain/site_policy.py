"""What the operator says of templates: which images they may name, and that they leave the ways out alone.

Looked at when a template is stored, never when a stored one is read: what was accepted goes on under a stricter policy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from orchestrator.domain.template import Template
from orchestrator.errors import Invalid

_PART = "[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?P<path>(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{{1,5}})?/)?{_PART}(?:/{_PART})*)"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?P<digest>@sha256:[0-9a-f]{64})?"
)
"""[registry[:port]/]path[:tag][@sha256:digest]"""
_WAYS_OUT = re.compile(
    r"(?i:(HTTP|HTTPS|ALL|NO|FTP)_PROXY)|SSL_CERT_FILE|SSL_CERT_DIR|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE"
)


def check(template: Template, images: Sequence[str], *, by_digest: bool) -> None:
    """Raises Invalid `invalid_template` with a pointer. `images`: registries or paths in them; none means any."""
    for name in (*template.env, *template.pod.secret_env):
        if _WAYS_OUT.fullmatch(name):
            raise _invalid("/env", f"{name} is the operator's to set: it says how pods reach others")
    if template.image is None:
        return
    found = _IMAGE.fullmatch(template.image)
    if found is None:
        raise _invalid("/image", "is no image: [registry/]path[:tag][@sha256:digest]")
    if images and not any(found["path"] == one or found["path"].startswith(f"{one}/") for one in images):
        raise _invalid("/image", "is of none of the registries in MUSTER_IMAGE_REGISTRIES")
    if by_digest and not found["digest"]:
        raise _invalid("/image", "must be named by digest: NAME@sha256:…")


def _invalid(pointer: str, why: str) -> Invalid:
    return Invalid(f"{pointer}: {why}", code="invalid_template", pointer=pointer)
