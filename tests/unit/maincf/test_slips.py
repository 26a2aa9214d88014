"""Which real name a misspelt one was meant to be."""

from __future__ import annotations

import pytest

from pf_agent.maincf.slips import nearest

KNOWN = (
    *("mynetworks", "mynetworks_style", "mydestination", "myorigin", "message_size_limit"),
    *("smtp_tls_CAfile", "smtpd_tls_CAfile", "smtpd_recipient_restrictions", "biff"),
    *("default_destination_recipient_limit", "smtp_destination_recipient_limit"),
)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("mynetwork", "mynetworks"),
        ("my_networks", "mynetworks"),
        ("mydestinations", "mydestination"),
        ("message_limit", "message_size_limit"),
        ("smtpd_recipent_restrictions", "smtpd_recipient_restrictions"),
        ("smtp_tls_cafile", "smtp_tls_CAfile"),
        ("smpt_destination_recipient_limit", "smtp_destination_recipient_limit"),
        ("Biff", "biff"),
        ("MYDESTINATION", "mydestination"),
        ("SMTP_TLS_CAFILE", "smtp_tls_CAfile"),
        # The own name of a service that master.cf no longer has, not a slip.
        ("dovecot_destination_recipient_limit", ""),
        ("internal_hosts", ""),
        ("", ""),
    ],
)
def test_the_nearest_real_name(name: str, meant: str) -> None:
    assert nearest(name, KNOWN) == meant
