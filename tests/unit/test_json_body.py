"""Bodies: what Postgres would refuse, or two readers would understand differently, is refused before anything else."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api.body import MAX_BODY, MAX_DEPTH, parse
from orchestrator.errors import Invalid


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "bad_json"),
        (b"{", "bad_json"),
        (b"{'a': 1}", "bad_json"),
        (b'{"a": 1} x', "bad_json"),
        (b'{"a": 01}', "bad_json"),
        (b"\xef\xbb\xbf{}", "bad_json"),
        ("{}".encode("utf-16"), "bad_json"),
        ('{"a": "ä"}'.encode("utf-16-le"), "bad_json"),
        ("{}".encode("utf-32"), "bad_json"),
        (b'{"a": "\xff"}', "bad_json"),
        (b'{"a": "\xc0\x80"}', "bad_json"),
        (b'{"a": "\xed\xa0\x80"}', "bad_json"),
        (b'{"a": NaN}', "bad_json"),
        (b'{"a": Infinity}', "bad_json"),
        (b'{"a": -Infinity}', "bad_json"),
        (b'{"a": 1e400}', "bad_json"),
        (b'{"a": -1e400}', "bad_json"),
        (b'{"a": ' + b"9" * 5000 + b"}", "bad_json"),
        (b'{"a": ' + b"9" * 301 + b"}", "bad_json"),
        (b'{"a": 1, "a": 2}', "bad_json"),
        (b'{"a": {"b": 1, "c": 2, "b": 3}}', "bad_json"),
        (b'{"a": 1, "\\u0061": 2}', "bad_json"),
        (b'{"a": "\\u0000"}', "invalid_string"),
        (b'{"a\\u0000": 1}', "invalid_string"),
        (b'{"a": ["x", ["\\u0000"]]}', "invalid_string"),
        (b'{"a": [{"b": "\\u0000"}]}', "invalid_string"),
        (b'["\\u0000"]', "invalid_string"),
        (b'"\\u0000"', "invalid_string"),
        (b'{"a": "\x00"}', "bad_json"),
        (b'{"a": "\\ud800"}', "invalid_string"),
        (b'{"a": ["\\udfff"]}', "invalid_string"),
        (b"[" * 100_000, "bad_json"),
        (b'{"a":' * 100_000, "bad_json"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "bad_json"),
    ],
)
def test_what_cannot_be_kept_is_refused(body: bytes, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse(body)
    assert refused.value.code == code
    assert len(refused.value.message) < 200


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b" {} ", {}),
        (b"null", None),
        (b'{"a": -0, "b": 1.0, "c": true}', {"a": 0, "b": 1.0, "c": True}),
        (b'{"a": 9223372036854775808}', {"a": 2**63}),
        (b'{"a": 1e-400}', {"a": 0.0}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
        ('{"a": "\u202e\u200b\ufeff"}'.encode(), {"a": "\u202e\u200b\ufeff"}),
        (b'{"__proto__": "${jndi:x}"}', {"__proto__": "${jndi:x}"}),
        (b'{"a": "[[[\\"{{{\\\\"}', {"a": '[[["{{{\\'}),
        (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, None),
    ],
)
def test_what_is_json_is_read(body: bytes, value: object) -> None:
    assert value is None or parse(body) == value


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('ab\\"[{', max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_every_value_that_json_writes_is_read_back(value: object) -> None:
    assert parse(json.dumps(value).encode()) == value


@pytest.mark.parametrize("filling", [b"[", b'{"a":', b'"\\\\', b'"[', b"[],"])
def test_a_body_of_the_largest_size_is_judged_in_bounded_time(filling: bytes) -> None:
    body = b"[" + (filling * MAX_BODY)[:MAX_BODY]
    started = time.thread_time()
    with pytest.raises(Invalid):
        parse(body)
    assert time.thread_time() - started < 2
