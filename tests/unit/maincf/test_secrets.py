"""What may be shown of a value that can be a secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_agent.maincf.secrets import HIDDEN, masked, masked_lines, without_shapes


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mysql_password", "s3cret"),
        ("smtp_sasl_password_maps", "static:user:s3cret"),
        ("smtp_sasl_password_maps", "inline:{[mail.example.org]=user:s3cret}"),
        ("smtp_sasl_password_maps", "hash:/etc/postfix/sasl, static:user:s3cret"),
        ("smtp_sasl_password_maps", "hash:/etc/postfix/sasl s3cret"),
        ("smtp_sasl_password_maps", "hash:/etc/a:s3cret"),
        ("my_api_key", "s3cret"),
        ("ldap_bind_pw", "s3cret"),
        ("password", "s3cret"),
        ("x_passphrase", "s3cret with blanks"),
    ],
)
def test_what_can_be_a_secret_is_hidden(name: str, value: str) -> None:
    assert masked(name, value) == HIDDEN


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("smtp_sasl_password_maps", "hash:/etc/postfix/sasl_passwd"),
        ("smtp_sasl_password_maps", "proxy:mysql:/etc/postfix/sasl.cf, lmdb:/etc/postfix/more"),
        ("smtp_sasl_password_maps", "hash:/etc/postfix/sasl,lmdb:/etc/postfix/more,"),
        ("smtp_sasl_password_maps", ""),
        ("smtp_sasl_password_maps", " , "),
        ("smtpd_tls_key_file", "/etc/ssl/private/mail.key"),
        ("relayhost", "[mail.example.org]:587"),
        ("virtual_alias_maps", "hash:/etc/postfix/virtual"),
        ("smtp_host_lookup", "dns"),
        ("mydestination", "a@b:c"),
        ("x_url", "https://example.org/a:b/c"),
    ],
)
def test_what_is_none_stays_readable(name: str, value: str) -> None:
    assert masked(name, value) == value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("ldap://anna:s3cret@ldap.example.org/x", "ldap://anna:(hidden)@ldap.example.org/x"),
        ("a http://:s3cret@h, b", "a http://:(hidden)@h, b"),
        ("HTTPS://u:p/a:s3c@ret@h", "HTTPS://u:(hidden)@h"),
        ("://u:p@h", "://u:p@h"),
    ],
)
def test_credentials_in_a_url_are_hidden(value: str, shown: str) -> None:
    assert masked("x_url", value) == shown
    assert masked_lines([f"x_url = {value}"]) == [f"x_url = {shown}"]
    assert without_shapes(f"bad value: {value}") == f"bad value: {shown}"


def test_lines_of_main_cf() -> None:
    lines = [
        "mysql_password = s3cret",
        "# a comment between",
        "    and more",
        "",
        "\tstill",
        "relayhost = a",
        "    b",
        "#old_key = s3cret",
        "  # other_password=s3cret",
        "    not its value",
        "a_password s3cret",
        "# the password is asked for",
    ]
    assert masked_lines(lines) == [
        "mysql_password = (hidden)",
        "# a comment between",
        "    (hidden)",
        "",
        "\t(hidden)",
        "relayhost = a",
        "    b",
        "#old_key = (hidden)",
        "  # other_password=(hidden)",
        "    not its value",
        "a_password (hidden)",
        "# the password is asked for",
    ]


@given(st.lists(st.text(max_size=20), max_size=6))
def test_a_line_stays_a_line(lines: list[str]) -> None:
    assert len(masked_lines(lines)) == len(lines)
    assert masked_lines(masked_lines(lines)) == masked_lines(lines)


LONG = 50_000


@pytest.mark.parametrize("name", ["my_password", "x_url"])
@pytest.mark.parametrize(
    "piece",
    ["a", "a.", "a:", "a:/", "a:/ ", "://", "x://", "x://y", "x://y:", "x://y:@ ", "@", "{", "\\"],
)
def test_no_value_is_slow_to_look_at(name: str, piece: str) -> None:
    """Where it took the square of the length, each of these would take minutes."""
    value = piece * LONG
    assert masked(name, f"{value} x://u:s3cret@h").find("s3cret") < 0
    assert len(masked_lines([f"{name} = {value}", value, f"#{value}"])) == 3
    assert without_shapes(value).find("s3cret") < 0
