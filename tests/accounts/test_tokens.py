from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from typing import Any

import jwt
import pytest

from mlserve_jupyter.accounts.tokens import (
    ACCESS_LIFETIME_S,
    ACCESS_TYPE,
    LEEWAY_S,
    REFRESH_TYPE,
    AccessTokens,
    RefreshTokens,
)
from mlserve_jupyter.errors import Unauthenticated

SECRET = bytes(range(64))
ACCESS = AccessTokens(SECRET)
REFRESH = RefreshTokens(SECRET)


def payload(**changes: Any) -> dict[str, Any]:
    now_s = int(time.time())
    whole = {
        "iss": "mlserve_jupyter",
        "aud": "mlserve_jupyter",
        "sub": "user-1",
        "fam": "family-1",
        "epo": 3,
        "jti": "token-1",
        "iat": now_s,
        "exp": now_s + ACCESS_LIFETIME_S,
    }
    whole.update(changes)
    return {name: value for name, value in whole.items() if value is not None}


def signed(
    claims: Mapping[str, Any],
    *,
    secret: bytes = SECRET,
    algorithm: str = "HS256",
    **headers: Any,
) -> str:
    return jwt.encode(dict(claims), secret, algorithm, headers={"typ": ACCESS_TYPE, **headers})


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def test_a_token_says_what_it_was_issued_with() -> None:
    claims = ACCESS.verify(ACCESS.issue("user-1", "family-1", 3))
    assert (claims.user_id, claims.family_id, claims.epoch) == ("user-1", "family-1", 3)
    assert ACCESS.verify(signed(payload())).token_id == "token-1"


def test_every_token_has_an_id_of_its_own() -> None:
    tokens = [ACCESS.verify(ACCESS.issue("u", "f", 0)).token_id for _ in range(100)]
    assert len(set(tokens)) == 100
    assert REFRESH.verify(REFRESH.issue("u", "f", 0, "given")).token_id == "given"


def test_clocks_may_differ_a_little() -> None:
    now_s = int(time.time())
    ahead = signed(payload(iat=now_s + LEEWAY_S - 5, exp=now_s + 100))
    behind = signed(payload(iat=now_s - 100, exp=now_s - LEEWAY_S + 10))
    assert ACCESS.verify(ahead).user_id == ACCESS.verify(behind).user_id == "user-1"


NOW_S = int(time.time())

BAD_TOKENS = {
    "none": f"{part({'alg': 'none', 'typ': ACCESS_TYPE})}.{part(payload())}.",
    "none in capitals": f"{part({'alg': 'NONE', 'typ': ACCESS_TYPE})}.{part(payload())}.",
    "another algorithm of the family": signed(payload(), algorithm="HS512"),
    "said to be RS256": (
        part({"alg": "RS256", "typ": ACCESS_TYPE})
        + signed(payload())[signed(payload()).find(".") :]
    ),
    "kid": signed(payload(), kid="../../../../dev/null"),
    "unknown crit": signed(payload(), crit=["exp2"], exp2=1),
    "crit without a list": signed(payload(), crit="exp"),
    "jwk": signed(payload(), jwk={"kty": "oct", "k": "AAAA"}),
    "wrong iss": signed(payload(iss="elsewhere")),
    "wrong aud": signed(payload(aud="elsewhere")),
    "several aud": signed(payload(aud=["mlserve_jupyter", "elsewhere"])),
    "another secret": signed(payload(), secret=SECRET[::-1]),
    "expired": signed(payload(iat=NOW_S - 4000, exp=NOW_S - LEEWAY_S - 5)),
    "from the future": signed(payload(iat=NOW_S + 600, exp=NOW_S + 900)),
    "valid for years": signed(payload(exp=NOW_S + 10**9)),
    "without a type": signed(payload(), typ=None),
    "of the usual type": signed(payload(), typ="JWT"),
    "more claims": signed(payload(role="admin")),
    "a number as sub": signed(payload(sub=1)),
    "text as epoch": signed(payload(epo="3")),
    "not a token": "nonsense",
    "empty": "",
    "very long": signed(payload(sub="u" * 10_000)),
    "deep header": base64.urlsafe_b64encode(b"[" * 1400).decode() + ".e30.e30",
    "not UTF-8": base64.urlsafe_b64encode(b'{"typ":"\xff"}').decode() + ".e30.e30",
    **{
        f"without {claim}": signed(payload(**{claim: None}))
        for claim in ("exp", "iat", "iss", "aud", "sub", "jti", "fam", "epo")
    },
}


@pytest.mark.parametrize("token", BAD_TOKENS.values(), ids=BAD_TOKENS)
def test_row_08_a_token_that_is_not_ours_whole_and_in_date_is_refused(token: str) -> None:
    with pytest.raises(Unauthenticated):
        ACCESS.verify(token)


def test_row_08_a_token_with_characters_that_say_nothing_is_refused() -> None:
    header, claims, signature = ACCESS.issue("user-1", "family-1", 3).split(".")
    for token in (
        f"{header}.{claims}.{signature}=",
        f"{header}.{claims}.!{signature}",
        f"{header}.{claims}.{signature}\n",
    ):
        with pytest.raises(Unauthenticated):
            ACCESS.verify(token)


def test_row_08_a_refresh_token_opens_nothing_and_an_access_token_refreshes_nothing() -> None:
    with pytest.raises(Unauthenticated):
        ACCESS.verify(REFRESH.issue("user-1", "family-1", 0))
    with pytest.raises(Unauthenticated):
        REFRESH.verify(ACCESS.issue("user-1", "family-1", 0))
    with pytest.raises(Unauthenticated):
        ACCESS.verify(signed(payload(), typ=REFRESH_TYPE))


def test_row_08_a_token_of_which_one_character_changed_is_refused() -> None:
    token = ACCESS.issue("user-1", "family-1", 0)
    for at in range(len(token) - 1):  # the last one carries bits that do not count
        changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        with pytest.raises(Unauthenticated):
            ACCESS.verify(changed)
