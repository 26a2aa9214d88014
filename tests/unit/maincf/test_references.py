"""What values name, and whether it is there, by rule; tests/references/ has what Postfix does."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pf_agent.maincf.inventory import Inventory
from pf_agent.maincf.master_cf import MasterCf
from pf_agent.maincf.references import absences, references
from pf_agent.maincf.values import flags
from pf_agent.model import Presence

MASTER = """\
smtp      inet  n  -  y  -  -  smtpd
submission inet n  -  y  -  -  smtpd
  -o smtpd_tls_security_level=encrypt
  -o smtpd_client_restrictions=$mua_client_restrictions
cleanup   unix  n  -  y  -  0  cleanup
proxymap  unix  -  -  n  -  -  proxymap
smtp      unix  -  -  y  -  -  smtp
relay     unix  -  -  y  -  -  smtp
local     unix  -  n  n  -  -  local
virtual   unix  -  n  n  -  -  virtual
lmtp      unix  -  -  y  -  -  lmtp
error     unix  -  -  y  -  -  error
policy    unix  -  n  n  -  0  spawn
"""
TYPES = frozenset(
    [
        *("btree", "cidr", "environ", "fail", "hash", "inline", "internal", "memcache", "nis"),
        *("pipemap", "proxy", "randmap", "regexp", "socketmap", "static", "tcp", "texthash"),
        *("unionmap", "unix"),
    ]
)
FILES = frozenset(
    [
        *("/etc/postfix/there", "/etc/postfix/there.db", "/etc/postfix/source"),
        *("/etc/postfix/list", "/etc/postfix/ask.cf", "/etc/ssl/cert.pem"),
        "/var/spool/postfix/private/auth",
    ]
)
LISTED = "proxy:hash:/etc/postfix/there proxy:unix:passwd.byname"
SETTINGS = {
    "mail_version": "3.10.13",
    "queue_directory": "/var/spool/postfix",
    "myhostname": "mail.example.test",
    "mynetworks": "127.0.0.0/8",
    "proxy_read_maps": LISTED,
    "smtpd_restriction_classes": "",
    "smtpd_tls_security_level": "may",
    "smtp_tls_security_level": "",
    "smtpd_sasl_type": "dovecot",
    "smtpd_sasl_auth_enable": "yes",
    "postlog_service_name": "postlog",
    "mua_client_restrictions": "",
    "virtual_alias_maps": "",
    "config_directory": "/etc/postfix",
}


def has(path: str) -> bool | None:
    return None if path.startswith("/secret/") else path in FILES


def inventory(settings: Mapping[str, str], master: str = MASTER) -> Inventory:
    return Inventory({**SETTINGS, **settings}, TYPES, MasterCf.parse(master.encode()).services, has)


def absent(settings: Mapping[str, str], master: str = MASTER) -> list[str]:
    """Why what is absent is, each with the parameter."""
    found = absences(references(settings, inventory(settings, master)))
    return [f"{each.parameter}: {each.why}" for each in found]


RCPT = "smtpd_recipient_restrictions"

RIGHT = [
    (RCPT, "permit_mynetworks, reject_unauth_destination"),
    (RCPT, "PERMIT_MyNetworks Reject_Unauth_Destination"),
    (RCPT, "check_client_access hash:/etc/postfix/there, permit"),
    (RCPT, "hash:/etc/postfix/there, reject_unauth_destination"),
    (RCPT, "check_recipient_access inline:{a=OK, {b = REJECT no}}, reject"),
    (
        RCPT,
        "check_sender_access { hash:/etc/postfix/there, search_order = cert_fingerprint } reject",
    ),
    (RCPT, "check_client_access hash:/etc/postfix/source, reject"),
    (RCPT, "check_client_access hash:/secret/table, reject"),
    (RCPT, "check_client_access hash:relative, reject"),
    (
        RCPT,
        "check_policy_service { inet:127.0.0.1:10032, timeout=10s, default_action=DUNNO } reject",
    ),
    (RCPT, "check_policy_service unix:private/policy, reject"),
    (RCPT, "check_policy_service unix:/run/policy, reject"),
    (RCPT, "warn_if_reject reject_rbl_client zen.example.test=127.0.0.[2..11], reject"),
    (RCPT, "sleep 1, reject_unauth_destination"),
    (RCPT, "reject_sender_login_mismatch, reject_authenticated_sender_login_mismatch, reject"),
    (RCPT, "permit_mynetworks, reject, no_such_thing"),
    ("virtual_alias_maps", "hash:/etc/postfix/there, proxy:hash:/etc/postfix/there"),
    ("virtual_alias_maps", "proxy:proxy:unix:passwd.byname"),
    ("virtual_alias_maps", "unionmap:{hash:/etc/postfix/there, static:x}"),
    ("virtual_alias_maps", "memcache:/etc/postfix/ask.cf tcp:localhost:1 socketmap:unix:x:y"),
    ("header_checks", "regexp:/etc/postfix/list"),
    ("smtp_header_checks", "regexp:/etc/postfix/list"),
    ("mynetworks", "127.0.0.0/8 [::1]/128 [fe80::]/64 !10.0.0.1 cidr:/etc/postfix/list"),
    ("mydestination", "$myhostname, /etc/postfix/list, hash:/etc/postfix/there"),
    ("relay_domains", "# nothing, but"),
    ("relay_domains", "*"),
    ("local_transport", "local:$myhostname"),
    ("virtual_transport", "lmtp:unix:private/auth"),
    ("default_transport", "smtp:[192.0.2.1]:25"),
    ("default_transport", "error: no more mail"),
    ("mailbox_transport", ""),
    ("content_filter", ""),
    ("smtpd_sasl_path", "private/auth"),
    ("smtpd_sasl_path", "private/away"),
    ("smtpd_milters", "unix:private/away, { inet:localhost:1, connect_timeout = 1s }"),
    ("smtpd_tls_cert_file", "/etc/ssl/cert.pem"),
    ("smtpd_tls_cert_file", "none"),
    ("smtp_tls_cert_file", "/etc/ssl/away.pem"),
    ("smtpd_tls_protocols", "!SSLv2, !sslv3 TLSv1.2"),
    ("smtpd_tls_protocols", ">= TLSv1.2, <=0304"),
    ("smtpd_tls_mandatory_protocols", "at this level nobody reads it"),
    ("smtpd_tls_ciphers", "Medium"),
    ("smtpd_banner", "$myhostname ESMTP $$5 ${nosuch?yes} ${nosuch:no}"),
    ("default_rbl_reply", "$rbl_code Service unavailable; $rbl_class"),
    ("mailbox_command", 'maildrop -d "$USER" $EXTENSION'),
    ("smtpd_milters", "inet:localhost:8891 unix:/run/away.sock"),
    ("smtpd_relay_before_recipient_restrictions", "yes"),
    ("my_own", "$nosuch"),
]


@pytest.mark.parametrize(("name", "value"), RIGHT)
def test_what_is_there_or_cannot_be_told_is_no_absence(name: str, value: str) -> None:
    assert absent({name: value}) == []


WRONG = [
    (RCPT, "reject_unknown_client_hostnam", "did you mean reject_unknown_client_hostname?"),
    (
        RCPT,
        "permit_mynetworks, permit_sasl_authentcated",
        "did you mean permit_sasl_authenticated?",
    ),
    (RCPT, "reject_rbl_client", "reject_rbl_client lacks its argument"),
    (RCPT, "reject_rbl_client, permit_mynetworks", 'must follow it, not "permit_mynetworks"'),
    (RCPT, "check_client_access permit", "a table, type:name must follow it"),
    (RCPT, "check_policy_service", "a policy server"),
    (RCPT, "sleep long", "a number of seconds"),
    (RCPT, "zen.example.test", 'smtpd knows no restriction "zen.example.test"'),
    (RCPT, "warn_if_reject reject, nothing_such", "nothing_such"),
    (
        RCPT,
        "check_client_access hash:/etc/postfix/no",
        "neither /etc/postfix/no.db nor /etc/postfix/no;",
    ),
    (RCPT, "check_client_access { hash:/no, search_order = cert_fingerprint }", "/no.db"),
    (RCPT, "check_client_access proxy:hash:/etc/postfix/list", "proxy_read_maps does not list"),
    (
        RCPT,
        "check_policy_service unix:private/away",
        "no service in master.cf creates private/away",
    ),
    ("smtpd_data_restrictions", "hash:/etc/postfix/there", "must come before"),
    ("header_checks", "pcre:/etc/postfix/list", "install postfix-pcre"),
    ("header_checks", "regexpp:/etc/postfix/list", "did you mean regexp?"),
    ("header_checks", "/etc/postfix/list", "Postfix expects type:name"),
    ("header_checks", "regexp:/no", "there is no file /no"),
    ("milter_header_checks", "regexp:/no", "there is no file /no"),
    ("virtual_alias_maps", "unionmap:{hash:/no, static:x}", "/no.db"),
    ("virtual_alias_maps", "memcache:/no", "there is no file /no"),
    ("mynetworks", "127.0.0.0/8; 10.0.0.0/8", "127.0.0.0/8; matches nothing"),
    ("mynetworks", '"127.0.0.0/8", 10.0.0.0/8', "matches nothing"),
    ("mydestination", "'localhost'", "matches nothing"),
    ("mydestination", "/no", "there is no file /no"),
    ("relay_domains", "hash:/no", "/no.db"),
    ("local_transport", "nosuch:x", 'no service "nosuch"'),
    ("default_transport", "smpt:x", "did you mean smtp?"),
    ("virtual_transport", "lmtp:unix:private/away", "in master.cf creates private/away"),
    ("content_filter", "amavis:[127.0.0.1]:10024", 'no service "amavis"'),
    ("cleanup_service_name", "precleanup", 'no service "precleanup"'),
    ("maillog_file", "/var/log/mail.log", 'no service "postlog"'),
    ("smtpd_tls_cert_file", "/no.pem", "TLS cannot start without it"),
    ("smtpd_tls_CAfile", "/no.pem", "TLS cannot start without it"),
    ("smtpd_command_filter", "regexp:/no", "there is no file /no"),
    ("mynetworks", "127.0.0.0/8|10.0.0.0/8", "matches nothing"),
    ("mynetworks", "127.0.0.*", "matches nothing"),
    ("mynetworks", "127.0.0.0 /8", "write the mask directly after the address"),
    ("smtpd_tls_chain_files", "/etc/ssl/cert.pem, /no.pem", "/no.pem"),
    ("smtpd_tls_protocols", "!SSLv2, !TLS1.0", '"TLS1.0" is not a TLS version'),
    ("smtpd_tls_protocols", ">=TLSv1.4", "TLSv1.4"),
    ("smtpd_tls_ciphers", "strong", "not a cipher grade; high, medium"),
    ("smtpd_banner", "$myhostnam ESMTP", "did you mean myhostname?"),
    ("mynetworks", "${nosuch} 127.0.0.0/8", "there is no parameter nosuch"),
]


@pytest.mark.parametrize(("name", "value", "said"), WRONG)
def test_what_is_proven_absent_is_told_with_the_way_out(name: str, value: str, said: str) -> None:
    (told,) = absent({name: value})
    assert told.startswith(f"{name}: ")
    assert said in told


def test_classes_lead_to_each_other() -> None:
    classes = {"smtpd_restriction_classes": "one, two, circle", RCPT: "one, permit"}
    classes |= {"one": "two, warn_if_reject reject", "two": "permit_mynetworks", "circle": "circle"}
    assert absent(classes) == []
    assert absent({**classes, RCPT: "circle"}) == []
    assert any("no restriction" in told for told in absent({**classes, RCPT: "three"}))
    (told,) = absent({**classes, "two": "reject_al"})
    assert told.startswith("two: smtpd knows no restriction")
    assert told.endswith(f" (one names two) ({RCPT} names one)")


def test_a_shortened_proxy_read_maps_lacks_what_smtpd_opens() -> None:
    shorter = {"proxy_read_maps": "$virtual_alias_maps"}
    default = "proxy:unix:passwd.byname $alias_maps"
    expanded = {"proxy_read_maps": "", "local_recipient_maps": default}
    found = absences(references(shorter, inventory(expanded)))
    assert [each.parameter for each in found] == ["local_recipient_maps"]
    assert "proxy_read_maps does not list proxy:unix:passwd.byname" in found[0].why


def test_the_options_of_a_service_count_for_it() -> None:
    master = MASTER.replace("$mua_client_restrictions", "$mine,reject_rbl_clint,permit")
    found = absences(references({}, inventory({"mine": "permit_mynetworks"}, master)))
    assert [(each.service, each.parameter) for each in found] == [
        ("submission/inet", "smtpd_client_restrictions")
    ]
    encrypted = MASTER + "  -o smtpd_tls_cert_file=/no.pem\n"
    off = {"smtpd_tls_security_level": "none"}
    assert absent(off, encrypted.replace("submission", "policy")) == []


def test_another_postfix_is_unknown_throughout() -> None:
    wrong = {RCPT: "nothing_such", "mail_version": "3.8.6"}
    assert references(wrong, inventory(wrong)) == ()


def test_without_an_answer_nothing_is_absent() -> None:
    told = {"header_checks": "pcre:/no", "local_transport": "no", "maillog_file": "/x"}
    nothing = Inventory({**SETTINGS, **told}, None, None, lambda _path: None)
    found = references(told, nothing)
    assert {each.presence for each in found} == {Presence.UNKNOWN}


def test_the_lists_of_restrictions_are_known() -> None:
    assert "restrictions" in flags("smtpd_relay_restrictions")
    assert "restrictions" not in flags("local_header_rewrite_clients")
    assert "maps" in flags("transport_maps")
    assert flags("nosuch") == frozenset()
