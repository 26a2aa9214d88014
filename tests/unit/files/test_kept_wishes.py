"""Wishes for master.cf on disk, and what is taken back of them: by the code that serves main.cf."""

from __future__ import annotations

import json

import pytest

from pf_agent.files.kept_wishes import agreed, from_json, to_json
from pf_agent.maincf.service_parts import ServiceParts
from pf_agent.model import DesiredState, DocumentKind, Wishes
from pf_agent.reconcile.drift import corrected
from pf_agent.reconcile.wishes import applied, taken_back, unserved, untouched

KIND = DocumentKind.MASTER_CF
TEXT = b"""\
smtp      inet  n       -       y       -       -       smtpd
#submission inet n       -       y       -       -       smtpd
#  -o syslog_name=postfix/submission
uucp      unix  -       n       n       -       -       pipe
  flags=Fqhu user=uucp argv=uux -r -n
"""
DESIRED = DesiredState(
    {
        "submission/inet": "enabled",
        "submission/inet/smtpd_sasl_auth_enable": "yes",
        "smtp/inet": "enabled",
        "smtp/inet/chroot": "n",
    },
    frozenset(["uucp/unix"]),
    kind=KIND,
)


def wished() -> tuple[Wishes, bytes]:
    after = corrected(ServiceParts.parse(TEXT), DESIRED).render()
    return applied(Wishes(), DESIRED, TEXT), after


def test_a_wish_survives_and_is_taken_back_to_the_byte() -> None:
    wishes, after = wished()
    assert after != TEXT
    again = from_json(json.loads(json.dumps(to_json(wishes))))
    assert again == wishes
    assert taken_back(KIND, after, again) == TEXT


def test_lines_that_are_not_a_parts_own_are_refused() -> None:
    document = to_json(wished()[0])
    document["before"]["smtp/inet/chroot"] += "x unix - - - - - x\n"
    with pytest.raises(ValueError, match="not its lines"):
        from_json(document)


def test_what_the_text_agrees_with() -> None:
    assert agreed(DESIRED, TEXT).settings == {"smtp/inet": "enabled"}
    assert agreed(DESIRED, wished()[1]) == DESIRED


def test_what_postfix_does_not_run_with_yet() -> None:
    wishes, after = wished()
    assert unserved(DESIRED, after, after) == ()
    assert unserved(DESIRED, after, TEXT) == (
        "smtp/inet/chroot",
        "submission/inet",
        "submission/inet/smtpd_sasl_auth_enable",
        "uucp/unix",
    )
    assert untouched(KIND, wishes, ["smtp/inet/chroot", "uucp/unix"], after) == {
        "smtp/inet/chroot",
        "uucp/unix",
    }
