"""What a desired document comes to by main.cf: grammar, secrecy, faults."""

from __future__ import annotations

import pytest

from pf_agent.maincf.resolved import Resolved, resolved
from pf_agent.model import DesiredState, DocumentKind, Place

NAME = "hash:/etc/postfix/t"
NONE = DesiredState({}, frozenset(), kind=DocumentKind.TABLE)


def of(main_cf: str, name: str = NAME, desired: DesiredState = NONE) -> Resolved:
    found = resolved(name, desired, [main_cf.encode()], "/etc/postfix")
    assert found is not None
    return found


@pytest.mark.parametrize(
    "said",
    [
        "smtp_sasl_password_maps = hash:/etc/postfix/t",
        "smtp_sasl_password_maps = hash:/etc/postfix/x,\n    proxy:hash:/etc/postfix/t",
        "smtp_sasl_password_maps = hash:$config_directory/t",
        "lmtp_sasl_password_maps = ${default_database_type}:${config_directory}/t",
        "my = hash:/etc/postfix/t\nsmtp_sasl_password_maps = $my",
        "smtp_sasl_password_maps = lmdb:/etc/postfix/t",
        "smtp_sasl_password_maps = pipemap:{hash:/etc/postfix/t}",
    ],
)
def test_a_table_of_passwords_is_secret(said: str) -> None:
    assert of(said).is_secret


def test_others_are_not() -> None:
    assert not of(
        "smtp_sasl_password_maps = hash:/etc/postfix/t2\ntransport_maps = " + NAME
    ).is_secret


def test_the_directory_is_that_of_the_instance() -> None:
    said = b"smtp_sasl_password_maps = hash:$config_directory/t\n"

    def is_secret(name: str) -> bool:
        found = resolved(name, NONE, [said], "/etc/postfix-out")
        return found is not None and found.is_secret

    assert is_secret("hash:/etc/postfix-out/t")
    assert not is_secret(NAME)


def test_it_is_secret_before_main_cf_says_so_and_as_long_as_it_does() -> None:
    secret, none = f"smtp_sasl_password_maps = {NAME}\n".encode(), b"biff = no\n"
    for texts in ([none, secret], [secret, none]):
        found = resolved(NAME, NONE, texts, "/etc/postfix")
        assert found is not None
        assert found.is_secret


def test_what_is_about_to_be_a_file_of_aliases_is_neither_yet() -> None:
    texts = [b"biff = no\n", f"alias_maps = {NAME}\n".encode()]
    assert resolved(NAME, NONE, texts, "/etc/postfix") is None


def test_aliases_are_what_main_cf_says() -> None:
    assert of("", "hash:/etc/aliases").desired.kind is DocumentKind.ALIASES
    assert of("alias_maps =\nalias_database =\n", "hash:/etc/aliases").desired.kind is not (
        DocumentKind.ALIASES
    )
    assert of(f"alias_maps = {NAME}").desired.kind is DocumentKind.ALIASES
    assert of(f"virtual_alias_maps = {NAME}").desired.kind is DocumentKind.TABLE


def test_it_is_named_by_any_parameter() -> None:
    assert of(f"transport_maps = {NAME}").is_named
    assert of(f"smtpd_client_restrictions = check_client_access {NAME}, permit").is_named
    assert not of("transport_maps = hash:/etc/postfix/other").is_named


def test_what_postfix_could_not_read_is_told_with_its_place() -> None:
    desired = DesiredState(
        {"a b": "x", "ok": "y", "empty": ""},
        frozenset({"#no"}),
        provenance={"a b": Place("x.toml", 3)},
        kind=DocumentKind.TABLE,
    )
    problems = of("", desired=desired).problems
    assert len(problems) == 3
    assert problems[0].startswith("x.toml:3: a b: whitespace ends a key")
    assert any(each.startswith("#no: ") for each in problems)
    # Of an alias, the same key is one that can be written.
    assert "a b" not in "".join(of(f"alias_maps = {NAME}", desired=desired).problems)
