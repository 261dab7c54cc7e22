"""A real S3 server for tests, as a thread of this process: moto speaks the protocol, s3fs is what the product uses."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import fsspec
import pytest
from moto.server import ThreadedMotoServer

BUCKET = "muster-tests"


@dataclass(frozen=True, kw_only=True)
class S3:
    """One server with one bucket. The environment of this process leads to it; `environment` leads others there."""

    environment: dict[str, str]

    def url(self, *names: str) -> str:
        return "/".join((f"s3://{BUCKET}", *names))

    def keys(self, *names: str) -> list[str]:
        """What lies below a prefix, without it."""
        system, path = self._at(*names)
        return sorted(key.removeprefix(f"{path}/") for key in system.find(path))

    def put(self, content: bytes, *names: str) -> str:
        """Its URL."""
        system, path = self._at(*names)
        system.pipe_file(path, content)
        return self.url(*names)

    def unfinished(self) -> list[str]:
        """Uploads in parts that were neither completed nor given up."""
        return [one["Key"] for one in self._at()[0].list_multipart_uploads(BUCKET)]

    def _at(self, *names: str) -> tuple[fsspec.AbstractFileSystem, str]:
        return fsspec.core.url_to_fs(self.url(*names), use_listings_cache=False)  # type: ignore[no-any-return]


@contextmanager
def s3() -> Iterator[S3]:
    """Until the block ends."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "tests",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir(BUCKET)
        try:
            yield S3(environment=environment)
        finally:
            fsspec.get_filesystem_class("s3").clear_instance_cache()
            server.stop()
