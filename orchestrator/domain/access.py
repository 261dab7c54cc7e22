"""Who calls, and what they may do in the tenant that they act for. Pure.

Every route and every page asks for one thing, a permission. Where it comes from differs: the scopes of a token of ours
grant some, and for a user of Kubeflow the API server says which verbs on PyTorchJobs the user has in a namespace.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from orchestrator.errors import Unauthorized


class Permission(StrEnum):
    SEE = "see"
    SUBMIT = "submit"
    CANCEL = "cancel"  # also: delete what has ended
    STEER = "steer"  # pause, resume; schedules, which start things later
    MANAGE = "manage"  # templates, pools, gangs, webhooks
    ADMINISTER = "administer"  # tokens: whoever has them can give away all the rest, for years


VERBS: Mapping[Permission, tuple[str, ...]] = {
    Permission.SEE: ("get", "list"),
    Permission.SUBMIT: ("create",),
    Permission.CANCEL: ("delete",),
    Permission.STEER: ("create", "update", "patch"),
    Permission.MANAGE: ("update", "patch"),
}
"""What a user of Kubernetes must be allowed on PyTorchJobs of the namespace. No verb gives ADMINISTER."""

ALL_VERBS = tuple(dict.fromkeys(verb for verbs in VERBS.values() for verb in verbs))


def granted(allowed: Collection[str]) -> frozenset[Permission]:
    """What the verbs that a user has in a namespace are good for."""
    return frozenset(permission for permission, verbs in VERBS.items() if set(verbs) <= set(allowed))


@dataclass(frozen=True, kw_only=True)
class User:
    """Somebody whom Kubernetes knows, with all groups."""

    name: str
    groups: tuple[str, ...]

    @property
    def home(self) -> str | None:
        """The namespace of a ServiceAccount."""
        account = _ACCOUNT.fullmatch(self.name)
        return account["namespace"] if account else None


@dataclass(frozen=True, kw_only=True)
class Question:
    """May the user do this to PyTorchJobs of the namespace? Of all namespaces, if none is named."""

    user: User
    namespace: str
    verb: str


class Reviews(Protocol):
    """Who knows the answers: the Kubernetes API server."""

    def allowed(self, question: Question) -> bool:
        """May block. Raises BackendError where nobody can say."""
        ...


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who calls. `name`: the token's ID, or the user's name. `user`: only of those whom Kubernetes knows."""

    name: str
    tenant: str
    permissions: frozenset[Permission]
    user: User | None = None
    gangs_in: str | None = None
    """Another namespace than the tenant's, in which its gangs run: MANAGE needs its verbs there, too."""

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions


_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_NAMESPACE = re.compile(_LABEL)
_ACCOUNT = re.compile(rf"system:serviceaccount:(?P<namespace>{_LABEL}):(?P<account>[a-z0-9][-.a-z0-9]{{0,252}})")
_PLAIN = re.compile(r"[^\x00-\x20\x7f][^\x00-\x1f\x7f]{0,255}")
MOST_GROUPS = 256


def is_namespace(name: str) -> bool:
    return _NAMESPACE.fullmatch(name) is not None


def user(name: str, groups: Iterable[str]) -> User:
    """The user of this name, in these groups and those that Kubernetes itself would add. Raises Unauthorized.

    Names that begin with `system:` mean something to Kubernetes (`system:masters` may do everything) and come from no
    login. A ServiceAccount is the exception; its groups follow from its name.
    """
    if account := _ACCOUNT.fullmatch(name):
        everyone = ("system:serviceaccounts", f"system:serviceaccounts:{account['namespace']}")
        return User(name=name, groups=(*everyone, _AUTHENTICATED))
    if not _PLAIN.fullmatch(name) or name.startswith("system:"):
        raise Unauthorized("the gateway names no user that a login can have")
    own = sorted({group for group in groups if _PLAIN.fullmatch(group) and not group.startswith("system:")})
    if len(own) > MOST_GROUPS:
        raise Unauthorized(f"the gateway names {len(own)} groups: at most {MOST_GROUPS} are taken")
    return User(name=name, groups=(*own, _AUTHENTICATED))


_AUTHENTICATED = "system:authenticated"
