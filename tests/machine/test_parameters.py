"""Each of the guide's parameters drifts by itself and is found right again, with its record."""

from __future__ import annotations

import pytest

from pf_agent import names
from pf_agent.config import desired
from pf_agent.config.table import Source
from tests.checkout import CHECKOUT
from tests.machine.site import MAIN_CF, SITE, Site

_SHIPPED = CHECKOUT / "etc" / "desired.toml"
GUIDE = desired.load(
    [Source(str(_SHIPPED), _SHIPPED.read_bytes()), Source("50-site.toml", SITE.encode())]
)

# Wrong, and of the parameter's own kind: what somebody might write there.
WRONG = {
    "myhostname": "other.example.test",
    "mydomain": "example.org",
    "myorigin": "/etc/mailname",
    "inet_interfaces": "loopback-only",
    "mydestination": "localhost",
    "mynetworks": "0.0.0.0/0 [::]/0",
    "home_mailbox": "Mailbox",
    "smtpd_banner": "$myhostname ESMTP $mail_name ($mail_version)",
    "inet_protocols": "ipv4",
    "message_size_limit": "0",
    "mailbox_size_limit": "51200000",
    "syslog_facility": "local1",
    "disable_vrfy_command": "no",
    "sendmail_path": "/bin/false",
    "newaliases_path": "/bin/false",
    "mailq_path": "/bin/false",
    "setgid_group": "nogroup",
    "html_directory": "/srv/html",
    "manpage_directory": "/srv/man",
    "sample_directory": "/srv/sample",
    "readme_directory": "/srv/readme",
}


def test_these_are_the_parameters_of_the_guide(site: Site) -> None:
    assert site.desired().settings == GUIDE.settings
    assert site.desired().use_default == GUIDE.use_default
    assert sorted(GUIDE.parameters()) == sorted(WRONG)
    assert len(WRONG) == 21


@pytest.mark.parametrize("way", ["postconf -e", "sed -i"])
@pytest.mark.parametrize("name", sorted(GUIDE.settings))
def test_a_setting_comes_back(site: Site, name: str, way: str) -> None:
    before, since = site.read(), site.cursor()
    line = site.line_of(name)
    if way == "postconf -e":
        site.machine.run(["postconf", "-e", f"{name}={WRONG[name]}"])
    else:
        site.machine.run(["sed", "-i", rf"s|^{name} *=.*|{name} =   {WRONG[name]}|", MAIN_CF])
    site.wait_right(before)
    records = site.drift_of(since)
    assert [record[names.FIELD_PARAMETER] for record in records] == [name]
    assert records[0][names.FIELD_KIND] == "changed"
    assert records[0][names.FIELD_EXPECTED] == GUIDE.settings[name]
    assert records[0][names.FIELD_ACTUAL] == WRONG[name]
    assert records[0][names.FIELD_LINE] == str(line)


@pytest.mark.parametrize("name", sorted(GUIDE.use_default))
def test_a_default_holds_again(site: Site, name: str) -> None:
    before, since = site.read(), site.cursor()
    site.machine.run(["postconf", "-e", f"{name}={WRONG[name]}"])
    # Commented out, not deleted: what somebody wrote stays to be read.
    site.wait_right(before + f"#{name} = {WRONG[name]}\n".encode())
    # If Postfix starts at this moment and sees a wrong one, its post-install writes all of these
    # into main.cf: that is drift as well, in a cycle of its own.
    records = [r for r in site.drift_of(since) if r[names.FIELD_CYCLE] == str(site.cycle_of(since))]
    assert [record[names.FIELD_PARAMETER] for record in records] == [name]
    assert records[0][names.FIELD_KIND] == "unwanted"
    assert names.FIELD_EXPECTED not in records[0]
    assert records[0][names.FIELD_ACTUAL] == WRONG[name]
    assert records[0][names.FIELD_LINE] == str(before.count(b"\n") + 1)


def test_postfix_runs_with_all_of_it_in_the_end(site: Site) -> None:
    site.wait_settled()
    assert site.is_obeyed()
    assert site.serves()
