"""Which storage a batch may name: what the operator allows, whatever a URL looks like, and never what we store."""

from __future__ import annotations

import pytest

from orchestrator.domain.source_urls import check_url
from orchestrator.errors import Invalid

ALLOWED = ("s3://allowed/", "s3://shared/{tenant}/in", "file:///data")
OWN = "s3://allowed/outputs"


def check(url: str) -> None:
    check_url(url, ALLOWED, tenant="ads", own=OWN)


@pytest.mark.parametrize(
    "url",
    [
        "s3://allowed/a.jsonl",
        "s3://allowed/deep/b 1.jsonl",
        "s3://shared/ads/in/a.jsonl",
        "file:///data/a.jsonl",
        "s3://allowed/outputs.jsonl",
    ],
)
def test_a_url_below_an_allowed_prefix_is_good(url: str) -> None:
    check(url)


@pytest.mark.parametrize(
    "url",
    [
        "s3://other/a.jsonl",
        "s3://allowed",
        "s3://allowed-evil/a.jsonl",
        "s3://allowedly/a.jsonl",
        "S3://allowed/a.jsonl",
        "s3a://allowed/a.jsonl",
        "s3://allowed/../other/a.jsonl",
        "s3://allowed/./a.jsonl",
        "s3://allowed//outputs/beta/a.jsonl",
        "s3://allowed/%2e%2e/a.jsonl",
        "s3://allowed/..%2fother/a.jsonl",
        "simplecache::s3://allowed/a.jsonl",
        "s3://allowed/a.zip::zip://x",
        "s3://allowed/a.jsonl?versionId=1",
        "s3://allowed/a.jsonl#x",
        "s3://allowed/*.jsonl",
        "s3://allowed/[a].jsonl",
        "s3://allowed@other/a.jsonl",
        "s3://key:secret@allowed/a.jsonl",
        "s3://allowed\\..\\other",
        "file:///etc/passwd",
        "file:///data/../etc/passwd",
        "/data/a.jsonl",
        "s3://allowed/a\n",
        "s3://shared/beta/in/a.jsonl",
        "s3://shared/{tenant}/in/a.jsonl",
        "s3://shared/ads/in2/a.jsonl",
        "s3://allowed/outputs/beta/files/fil_1",
    ],
)
def test_no_other_url_is_read(url: str) -> None:
    with pytest.raises(Invalid) as refusal:
        check(url)
    assert refusal.value.code == "url_not_allowed"


def test_a_refusal_names_what_this_tenant_may_read() -> None:
    with pytest.raises(Invalid, match="s3://shared/ads/in/") as refusal:
        check("s3://other/a")
    assert "{tenant}" not in refusal.value.message


def test_no_url_is_read_where_the_operator_allows_none() -> None:
    with pytest.raises(Invalid, match="MUSTER_BATCH_URLS"):
        check_url("s3://allowed/a.jsonl", (), tenant="ads", own=OWN)
