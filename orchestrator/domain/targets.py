"""Where webhooks may go: which URLs are taken, and which addresses may be connected to. Pure: resolves nothing.

A URL is held to its form when it is registered. Its address is known only when it is sent to, so the address is held to
the same rules then: a name may resolve to anything, at any time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Self
from urllib.parse import SplitResult, urlsplit

import idna

from orchestrator.errors import Invalid

LONGEST_URL = 1000
PORTS = {"https": 443, "http": 80}
ANY = "*"
"""The host of a rule that lets every public address in."""

_VISIBLE = re.compile(r"[\x21-\x7e]+")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")
_RULE = re.compile(r"(?:(https?)://)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9*.-]+)(?::([0-9]{1,5}))?")
_EMBEDDING = [
    IPv6Network(net)
    for net in ("::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "fec0::/10")
]
"""IPv6 that carries an IPv4 address, or that `is_global` gets wrong: v4-compatible, v4-mapped, NAT64, 6to4, Teredo,
site-local. Python 3.11 calls 64:ff9b::7f00:1 and 2002:7f00:1:: global."""

Address = IPv4Address | IPv6Address


def is_public(address: Address) -> bool:
    """Whether anybody on the internet may be meant by it: no loopback, private, link-local, multicast, embedded one."""
    if isinstance(address, IPv6Address) and (address.scope_id or any(address in net for net in _EMBEDDING)):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A URL, taken apart and normalised."""

    scheme: str
    host: str
    port: int
    path: str
    """With the query."""

    @property
    def origin(self) -> str:
        """`https://host:port`: one receiver."""
        return f"{self.scheme}://{self._host}:{self.port}"

    @property
    def authority(self) -> str:
        """As the Host header has it."""
        return self._host if self.port == PORTS[self.scheme] else f"{self._host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def _host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One place that the operator allows."""

    scheme: str
    host: str
    """A name, `*.name` for all below it, an address, or `*`."""
    port: int

    def covers(self, target: Target) -> bool:
        if (self.scheme, self.port) != (target.scheme, target.port):
            return False
        if self.host.startswith("*."):
            return target.host.endswith(self.host[1:])
        return self.host in (ANY, target.host)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What the operator allows, as MUSTER_WEBHOOK_HOSTS says it."""

    rules: tuple[Rule, ...]

    @classmethod
    def read(cls, entries: Sequence[str]) -> Self:
        """From `[scheme://]host[:port]`. Raises Invalid."""
        return cls(rules=tuple(_rule(entry) for entry in entries))

    def target(self, url: str) -> Target:
        """Where the URL leads, if that is allowed as far as its form tells. Raises Invalid `webhook_url_refused`."""
        target = _parsed(url)
        if not any(rule.covers(target) for rule in self.rules):
            raise _refused(f"{target.origin} is not among the places that this installation allows for webhooks")
        if not self.trusts(target):
            _check_public_form(target)
        return target

    def trusts(self, target: Target) -> bool:
        """Whether the operator named this place: then its address may be any."""
        return any(rule.host != ANY and rule.covers(target) for rule in self.rules)

    def admits(self, target: Target, address: Address) -> bool:
        return self.trusts(target) or is_public(address)


def literal(host: str) -> Address | None:
    """The address that the host is written as; None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def _rule(entry: str) -> Rule:
    match = _RULE.fullmatch(entry)
    if match is None or "*" in (match[2] if match[2] != ANY else "").removeprefix("*."):
        raise Invalid(f"MUSTER_WEBHOOK_HOSTS: {entry!r} is not [scheme://]host[:port]")
    scheme, host, port = match[1] or "https", match[2].strip("[]").lower(), int(match[3] or 0)
    address = literal(host)
    return Rule(scheme=scheme, host=str(address) if address else host, port=port or PORTS[scheme])


def _parsed(url: str) -> Target:
    if len(url) > LONGEST_URL:
        raise _refused(f"the URL is longer than {LONGEST_URL} characters")
    _check_characters(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _refused(f"this is not a URL ({error})") from None
    if parts.scheme not in PORTS:
        raise _refused("a webhook URL begins with https://")
    if "@" in parts.netloc:
        raise _refused("a webhook URL holds no user name and no password")
    if parts.fragment or "#" in url:
        raise _refused("a webhook URL has no #fragment")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(scheme=parts.scheme, host=_host(parts), port=PORTS[parts.scheme] if port is None else port, path=path)


def _check_characters(url: str) -> None:
    """What two readers of one URL may understand differently is refused."""
    if _VISIBLE.fullmatch(url) is None:
        raise _refused(f"a webhook URL is plain ASCII without spaces{_in_ascii(url)}")
    if "\\" in url:
        raise _refused("a webhook URL holds no backslash")


def _in_ascii(url: str) -> str:
    """How the host of an international URL is written: what looks like another name is seen for what it is."""
    try:
        host = urlsplit(url).hostname or ""
        return f"; write its host as {idna.encode(host, uts46=True).decode()}" if not host.isascii() else ""
    except ValueError:  # idna's own error is one
        return ""


def _host(parts: SplitResult) -> str:
    """Lower case, without the root's dot; an address in its one usual spelling."""
    host = (parts.hostname or "").removesuffix(".")
    if parts.netloc.startswith("["):
        address = literal(host)
        if address is None or "%" in host:
            raise _refused(f"[{host[:60]}] is no IPv6 address")
        return str(address)
    labels = host.split(".")
    if _NUMERIC.fullmatch(labels[-1]):  # 2130706433, 0x7f000001, 127.1: getaddrinfo would read them all as addresses
        if literal(host) is None:
            raise _refused(f"{host[:60]} is no IPv4 address: write four decimal numbers")
        return host
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _refused(f"{host[:60]!r} is no host name")
    return host


def _check_public_form(target: Target) -> None:
    address = literal(target.host)
    if address is not None and not is_public(address):
        raise _refused(f"{target.host} is not a public address")
    if target.host == "localhost" or target.host.endswith(".localhost"):
        raise _refused("localhost is the service itself")


def _refused(why: str) -> Invalid:
    return Invalid(why, code="webhook_url_refused", pointer="/url")
