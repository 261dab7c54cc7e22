"""What an operator may set. Read once at start from the environment; nothing else reads environment variables."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Self, get_args

from orchestrator import stock_names
from orchestrator.errors import Invalid

DEFAULT_PORT = 8380
SHORTEST_WEBHOOK_KEY = 32
MOST_GANG_NAMESPACES = 200
OPERATOR = "default"
"""The tenant of the installation's own tokens (`muster token create --local`)."""
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+", re.ASCII)
LogFormat = Literal["auto", "json", "text"]
LogLevel = Literal["debug", "info", "warning", "error"]


def default_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where state lies on this machine: $MUSTER_HOME, else the user's data folder, else below the temporary folder."""
    if home := environ.get("MUSTER_HOME"):
        return Path(home).expanduser()
    if data := environ.get("XDG_DATA_HOME"):
        return Path(data) / "muster"
    if environ.get("HOME"):
        return Path(environ["HOME"]) / ".local" / "share" / "muster"
    return Path(environ.get("TMPDIR", "/tmp")) / f"muster-{os.getuid()}"  # noqa: S108 - no home: the last resort


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every field may be given as an environment variable: MUSTER_ and its name in capitals; durations in seconds."""

    folder: Path
    """State of this machine: embedded Postgres, local gangs, outputs, the local token."""

    host: str = "127.0.0.1"
    """Address to listen on. Loopback unless the operator says otherwise."""

    port: int = DEFAULT_PORT
    """Port of the API; 0 takes a free one."""

    worker_port: int | None = None
    """A port for the worker API alone, which then is not on `port`; None: both on `port`. 0 takes a free one."""

    gateway_port: int | None = None
    """A port for people whom Kubeflow's gateway vouches for; it alone may reach it. 0 takes a free one."""

    gateway_namespaces: tuple[str, ...] = ()
    """Namespaces that those may act for, `*` for any; empty: `namespace`."""

    gateway_principal: str = ""
    """Who must be calling there by the word of the mesh: cluster.local/ns/NAMESPACE/sa/NAME; empty is not looked at."""

    userid_header: str = "kubeflow-userid"
    """In which header the gateway names the user."""

    userid_prefix: str = ""
    """What it puts in front of the name."""

    groups_header: str = "kubeflow-groups"
    """In which header it names the user's groups, with commas between."""

    disable_auth: bool = False
    """Whether users of the gateway may do everything, without a question; only on loopback, to try things out."""

    database_url: str | None = None
    """A Postgres server; None starts the embedded one in `folder`."""

    api_urls: tuple[str, ...] = ()
    """Base URLs under which pods reach the replicas; empty means this one."""

    storage_url: str | None = None
    """Where outputs go, as fsspec writes it (file://, s3://, ...); None means `folder`/outputs."""

    backend: str = "local"
    """Where gangs run: local or kubeflow."""

    namespace: str = "default"
    """Of kubeflow: the namespace of the PyTorchJobs of tenants that are not in `gang_namespaces`."""

    gang_namespaces: tuple[str, ...] = ()
    """Of kubeflow: namespaces in which the gangs of the tenant of the same name run; at most 200."""

    installation: str = "muster"
    """Of kubeflow: tells the objects of two installations in one namespace apart."""

    image: str | None = None
    """Of kubeflow: what the pods of a template that names no image run."""

    kubeconfig: Path | None = None
    """Of kubeflow: a kubeconfig file; None means the ServiceAccount of the pod that the service runs in."""

    gang_url: str | None = None
    """Of kubeflow: where people find our page about a gang, with {gang} for its ID; annotated on its PyTorchJob.

    None: below `public_url`."""

    resync: timedelta = timedelta(seconds=60)
    """Of kubeflow: how often everything is listed anew, whatever the watch said."""

    lease: timedelta = timedelta(seconds=30)
    """A lease without a beat is over after this long, by the database's clock."""

    beat: timedelta = timedelta(seconds=5)
    """How often a gang beats. Must fit at least three times into `lease`."""

    poll: timedelta = timedelta(seconds=15)
    """How long an idle gang's question for work is parked."""

    keep_alive: timedelta = timedelta(seconds=75)
    """How long an HTTP connection without a call is kept open."""

    hosts: tuple[str, ...] = ()
    """Names under which the service is called beside loopback's and those of `api_urls`; `*.name` and `*` will do."""

    image_registries: tuple[str, ...] = ()
    """Registries, or paths in them, that templates may take images from; empty is any."""

    image_digests: bool = False
    """Whether an image must be named by its digest."""

    head_timeout: timedelta = timedelta(seconds=10)
    """How long the head of an HTTP request may take to arrive."""

    body_timeout: timedelta = timedelta(seconds=30)
    """How long an HTTP body may pause."""

    stall_timeout: timedelta = timedelta(seconds=60)
    """How long a caller may read nothing of its answer."""

    min_upload_rate: int = 1024
    """Bytes per second that a body must bring on average once it lasts longer than `body_timeout`."""

    max_head_bytes: int = 16 << 10
    """The largest request line with headers."""

    max_connections: int = 16_384
    """HTTP connections of one replica; fewer where the system gives fewer files."""

    max_idle_connections: int = 8_192
    """Those of them without a call under way; whoever did nothing for longest goes first."""

    max_open: int = 100_000
    """Requests of one tenant that are not at their end; `muster tenant set` gives a tenant bounds of its own."""

    max_queued: int = 50_000
    """Requests that wait for one template."""

    max_waits: int = 1_000
    """Calls of one tenant that one replica holds open: waits and streams."""

    submit_rate: float = 0.0
    """Submits of one tenant per second, on average; 0 is no bound."""

    stop_grace: timedelta = timedelta(seconds=15)
    """From SIGTERM to SIGKILL when a gang is stopped."""

    log_retention: timedelta = timedelta(days=7)
    """Logs of terminal requests and gone gangs are deleted after this long."""

    max_upload_bytes: int = 4 << 30
    """The largest file that is taken as an upload."""

    upload_retention: timedelta = timedelta(days=7)
    """Uploads are deleted after this long, unless an open request names them."""

    output_retention: timedelta = timedelta(days=30)
    """Outputs are deleted so long after the end of their request; a template or a request may say sooner."""

    batch_retention: timedelta = timedelta(days=90)
    """A batch is forgotten this long after it was over, with all its items, once the last of their outputs expired."""

    public_url: str = ""
    """Where people reach the service: the beginning of the URLs in webhooks; empty gives paths."""

    page_prefix: str = ""
    """What the paths of our pages begin with where a gateway puts them below a path of its own, as /muster."""

    secure_cookies: bool = False
    """Whether browsers send our cookies over TLS alone, also where `public_url` does not say https."""

    webhook_hosts: tuple[str, ...] = ("*",)
    """Where webhooks may go, `[scheme://]host[:port]` each: names may lead anywhere, `*` to public addresses only."""

    webhook_keys: tuple[str, ...] = field(default=(), repr=False)
    """What webhook secrets are derived from, the newest first; empty: no webhooks (`up` makes itself one)."""

    webhook_retention: timedelta = timedelta(days=30)
    """Deliveries of webhooks are forgotten this long after they are over."""

    log: LogFormat = "auto"
    """The service's own log on standard error: `json`, `text`, or `auto`, which is text on a terminal only."""

    log_level: LogLevel = "info"
    """What is logged: `debug`, `info` (each move and action), `warning` or `error`."""

    metrics_port: int | None = None
    """A port for the metrics alone, without authentication, for Prometheus; None has none."""

    metrics_by_tenant: bool = False
    """Whether metrics name tenants."""

    max_open_batches: int = 100
    """Batches that one tenant may have open."""

    batch_urls: tuple[str, ...] = ()
    """Storage that batches may be read from, as prefixes (s3://bucket/{tenant}/); without `{tenant}` of all tenants."""

    database_connections: int = 16
    """Size of the connection pool of one replica."""

    traces: bool | None = None
    """Whether spans are made and sent; None: where the environment names an OTLP endpoint."""

    otlp: bool = False
    """Whether it names one: OTEL_EXPORTER_OTLP_ENDPOINT, and nothing of OpenTelemetry's own says no."""

    traces_ratio: float = 1.0
    """The share of requests that get a trace although their caller sent none."""

    def gangs_in(self, tenant: str) -> str:
        """Of kubeflow: the namespace in which gangs of the tenant run. It follows from the tenant alone."""
        return tenant if tenant in self.gang_namespaces else self.namespace

    @property
    def outputs(self) -> str:
        """The storage URL, resolved."""
        return self.storage_url or (self.folder.absolute() / "outputs").as_uri()

    @property
    def gang_page(self) -> str | None:
        """`gang_url`, or that of our own page where people reach the service by a URL."""
        site = self.public_url.rstrip("/").removesuffix(self.page_prefix)
        return self.gang_url or (f"{site}{self.page_prefix}/ui/gangs/{{gang}}" if site else None)

    @property
    def local_file(self) -> Path:
        """Where `up` leaves its URL and token for the CLI on the same machine."""
        return self.folder / "local.json"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Settings from MUSTER_* variables.

        Raises Invalid for a value that cannot be read.
        """
        given: dict[str, Any] = {"folder": default_folder(environ)}
        environ = stock_names.translated(environ)
        for name, declared in cls.__dataclass_fields__.items():
            text = environ.get(f"MUSTER_{name.upper()}")
            if text and name != "folder":
                given[name] = _read(name, str(declared.type), text)
        given["otlp"] = _otlp(environ)
        return cls(**given).checked()

    def checked(self) -> Self:
        """Itself, if its fields make sense and fit each other."""
        for name, declared in type(self).__dataclass_fields__.items():
            if declared.type == "timedelta" and getattr(self, name) <= timedelta():
                raise Invalid(f"MUSTER_{name.upper()} must be above 0 seconds")
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise Invalid(f"MUSTER_{name.upper()}={getattr(self, name)} must be at least {least}")
        self._check_ports()
        self._check_namespaces()
        if any(len(key) < SHORTEST_WEBHOOK_KEY for key in self.webhook_keys):
            raise Invalid(f"MUSTER_WEBHOOK_KEYS: a key has at least {SHORTEST_WEBHOOK_KEY} characters")
        if self.batch_retention < timedelta(days=7):
            raise Invalid("MUSTER_BATCH_RETENTION must be at least 604800 seconds: an idempotency key holds so long")
        if self.webhook_retention < timedelta(days=1):
            raise Invalid("MUSTER_WEBHOOK_RETENTION must be at least 86400 seconds: receivers are away for hours")
        if not 0 <= self.traces_ratio <= 1:
            raise Invalid(f"MUSTER_TRACES_RATIO={self.traces_ratio} is no share: give 0 to 1")
        if self.page_prefix and not _PREFIX.fullmatch(self.page_prefix):
            raise Invalid(f"MUSTER_PAGE_PREFIX={self.page_prefix!r}: write it as /muster, without a slash at the end")
        for name, words in (("log", get_args(LogFormat)), ("log_level", get_args(LogLevel))):
            if getattr(self, name) not in words:
                raise Invalid(f"MUSTER_{name.upper()}={getattr(self, name)!r}: there are {', '.join(words)}")
        if self.beat * 3 > self.lease:
            raise Invalid(
                f"MUSTER_BEAT ({self.beat}) must fit three times into MUSTER_LEASE ({self.lease}): raise the lease"
            )
        return self

    def _check_namespaces(self) -> None:
        named, variable = self.gang_namespaces, "MUSTER_GANG_NAMESPACES"
        if wrong := [one for one in named if not _NAMESPACE.fullmatch(one) or one == OPERATOR]:
            raise Invalid(f"{variable}: {wrong[0]!r} is no namespace of a tenant")
        if len(named) != len(set(named)):
            raise Invalid(f"{variable} names a namespace twice")
        if len(named) > MOST_GANG_NAMESPACES:
            raise Invalid(f"{variable}: {len(named)} are more than {MOST_GANG_NAMESPACES}: take a second installation")

    def _check_ports(self) -> None:
        taken: dict[int, str] = {}
        for name in ("port", "worker_port", "gateway_port", "metrics_port"):
            port, variable = getattr(self, name), f"MUSTER_{name.upper()}"
            if port is None:
                continue
            if not 0 <= port <= 65535:
                raise Invalid(f"{variable}={port} is no port: give 0 to 65535")
            if port and port in taken:
                raise Invalid(f"{variable}={port} is {taken[port]}: give another one, or none")
            taken[port] = variable
        if self.disable_auth and self.host not in _LOOPBACK:
            raise Invalid(f"MUSTER_DISABLE_AUTH lets everybody do everything: not with MUSTER_HOST={self.host}")


def _otlp(environ: Mapping[str, str]) -> bool:
    """Whether the standard variables of OpenTelemetry ask for traces."""
    named = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none"
    return bool(named) and not off


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError(number)
    return number


_LOOPBACK = ("127.0.0.1", "::1", "localhost")

_LEAST: Mapping[str, int] = {
    "max_upload_bytes": 1,
    "database_connections": 1,
    "min_upload_rate": 0,
    "max_head_bytes": 1024,
    "max_connections": 1,
    "max_idle_connections": 1,
    "max_open": 0,
    "max_open_batches": 0,
    "max_queued": 0,
    "max_waits": 0,
    "submit_rate": 0,
}


def _read(name: str, kind: str, text: str) -> object:
    try:
        if kind == "timedelta":
            return timedelta(seconds=float(text))
        if kind in ("int", "int | None"):
            return int(text)
        if kind == "float":
            return _finite(float(text))
        if kind in ("bool", "bool | None"):
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.lower()]
        if kind == "Path | None":
            return Path(text).expanduser()
        if kind.startswith("tuple"):
            return tuple(part.strip().rstrip("/") for part in text.split(",") if part.strip())
        return text
    except (ValueError, OverflowError, KeyError):
        wanted = kind.removesuffix(" | None")
        wanted = "true or false" if wanted == "bool" else f"a {wanted}"
        raise Invalid(f"MUSTER_{name.upper()}={text!r} is not {wanted}") from None
