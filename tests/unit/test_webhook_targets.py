"""Which URLs webhooks may have, and which addresses they may reach."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from orchestrator.domain.targets import LONGEST_URL, Policy, is_public
from orchestrator.errors import Invalid

PUBLIC = Policy.read(["*"])


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "ftp://example.com/",
        "//example.com/",
        "example.com",
        "https://",
        "https:///path",
        "https://user:secret@example.com/",
        "https://user@example.com/",
        "https://example.com@127.0.0.1/",
        "https://example.com:22/",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://example.com:x/",
        "https://localhost/",
        "https://LOCALHOST./",
        "https://a.localhost/",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.0.0.1/",
        "https://0177.0.0.1/",
        "https://1.2.3.0x4/",
        "https://017700000001/",
        "https://0/",
        "https://10.0.0.1/",
        "https://192.168.1.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://100.64.0.1/",
        "https://224.0.0.1/",
        "https://255.255.255.255/",
        "https://[::1]/",
        "https://[::]/",
        "https://[fe80::1]/",
        "https://[fe80::1%25eth0]/",
        "https://[fd00:ec2::254]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:8.8.8.8]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/",
        "https://[2001:0:7f00:1::]/",
        "https://[ff02::1]/",
        "https://[::1",
        "https://[example.com]/",
        "https://exa mple.com/",
        "https://example.com/\r\nHost: x",
        "https://example.com\\@127.0.0.1/",
        "https://example.com/#fragment",
        "https://example.com/#",
        "https://gооgle.com/",
        "https://①②⑦.⓪.⓪.①/",
        "https://localho\u017ft/",
        "https://under_score.example.com/",
        "https://-x.example.com/",
        "https://a..example.com/",
        "https://" + "a" * 64 + ".example.com/",
        "https://" + "a." * 130 + "com/",
        "https://example.com/" + "x" * 2000,
        "",
        "\0",
    ],
)
def test_a_url_that_could_lead_inside_or_be_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(Invalid) as refused:
        PUBLIC.target(url)
    assert refused.value.code == "webhook_url_refused"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://Example.COM:443/a?b=c", "https://example.com/a?b=c"),
        ("HTTPS://example.com.", "https://example.com/"),
        ("https://xn--ggle-55da.com/x", "https://xn--ggle-55da.com/x"),
        ("https://93.184.216.34/", "https://93.184.216.34/"),
        ("https://[2606:2800:220:1:0:0:0:1]:443/", "https://[2606:2800:220:1::1]/"),
        ("https://example.com/" + "x" * (LONGEST_URL - 20), "https://example.com/" + "x" * (LONGEST_URL - 20)),
    ],
)
def test_a_public_url_is_taken_in_one_spelling(url: str, shown: str) -> None:
    assert PUBLIC.target(url).url == shown


def test_the_ascii_form_of_an_international_name_is_named() -> None:
    with pytest.raises(Invalid, match=r"xn--ggle-55da\.com"):
        PUBLIC.target("https://gооgle.com/")


def test_only_what_the_operator_lists_is_taken_once_there_is_a_list() -> None:
    policy = Policy.read(["http://receiver.ns.svc:8080", "*.hooks.example.com", "[fd00::1]"])
    assert policy.target("http://receiver.ns.svc:8080/x").port == 8080
    assert policy.target("https://a.b.hooks.example.com/").host == "a.b.hooks.example.com"
    assert policy.target("https://[fd00:0::1]/").host == "fd00::1"
    for other in (
        "https://receiver.ns.svc:8080/",
        "http://receiver.ns.svc/",
        "https://hooks.example.com/",
        "https://evilhooks.example.com/",
        "https://example.org/",
    ):
        with pytest.raises(Invalid):
            policy.target(other)


def test_a_place_that_the_operator_names_may_have_any_address_others_only_public_ones() -> None:
    policy = Policy.read(["*", "inside.example"])
    loopback, public = ip_address("127.0.0.1"), ip_address("93.184.216.34")
    inside, outside = policy.target("https://inside.example/"), policy.target("https://example.com/")
    assert policy.admits(inside, loopback) and policy.admits(inside, public)
    assert not policy.admits(outside, loopback) and policy.admits(outside, public)


def test_without_a_rule_nothing_is_taken() -> None:
    with pytest.raises(Invalid):
        Policy.read([]).target("https://example.com/")


@pytest.mark.parametrize("entry", ["", "ftp://x", "a*b.com", "*.*.com", "x:port", "https://x/path", "u@x"])
def test_an_entry_that_is_no_place_is_refused(entry: str) -> None:
    with pytest.raises(Invalid, match="MUSTER_WEBHOOK_HOSTS"):
        Policy.read([entry])


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "198.18.0.1",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:1.2.3.4",
        "64:ff9b::7f00:1",
        "64:ff9b::808:808",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2002:808:808::",
        "2001:0:1::1",
        "fe80::1",
        "fec0::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "2001:db8::1",
        "fe80::1%eth0",
    ],
)
def test_an_address_that_is_not_plainly_public_is_denied(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:2800:220:1::1", "2a00:1450:4001::1"])
def test_a_public_address_is_admitted(address: str) -> None:
    assert is_public(ip_address(address))
