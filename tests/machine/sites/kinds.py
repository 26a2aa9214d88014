"""The sites: how each is set up beside what pf-agent manages, and whom its Postfix serves.

All that `setup` does stands in main.cf and master.cf unmanaged, as an administrator left it there.
Each has two addresses of its own outside of mynetworks: mail is taken on one, a stranger comes
from the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.machine.sites.clients import Client

OWN, STRANGER, TAKEN, SECOND = "192.0.2.25", "192.0.2.77", "127.0.0.9", "127.0.0.2"
DOMAIN = "example.test"
ELSEWHERE = "somebody@elsewhere.test"
MAILDIR = "/home/joe/Maildir"
INTERFACES = f"127.0.0.1, [::1], {OWN}"
SECOND_INSTANCE = "postfix-out"

_LOCAL_AND_RELAYED = (f"joe@{DOMAIN}", ELSEWHERE)
_SECURE = (
    "-o smtpd_tls_security_level=encrypt",
    "-o smtpd_relay_restrictions=permit_mynetworks,reject",
)


def served(port: int = 25, **more: Client) -> dict[str, Client]:
    """Whom each Postfix serves: a client of the host's own, a stranger, and sendmail."""
    return {
        "loopback": Client(_LOCAL_AND_RELAYED, port),
        "stranger": Client(_LOCAL_AND_RELAYED, port, STRANGER, OWN),
        "sendmail": Client(("joe",), maildir=MAILDIR),
        **more,
    }


def behind_a_proxy() -> dict[str, Client]:
    """The same, but for what a proxy says of them."""
    return {
        "loopback": Client(_LOCAL_AND_RELAYED, 25, proxy="127.0.0.1"),
        "stranger": Client(_LOCAL_AND_RELAYED, 25, proxy=STRANGER),
        "sendmail": Client(("joe",), maildir=MAILDIR),
    }


@dataclass(frozen=True)
class Kind:
    """One kind of site.

    `servers` are units, by name, and what servers.py is to be for them; `away` says that they have
    stopped since pf-agent took over, `never` that they were not there then either. `settings` are
    lines of desired state beside the guide's. `refused` are the clients that must not relay.
    """

    setup: str = ""
    settings: str = f'inet_interfaces = "{INTERFACES}"\n'
    servers: dict[str, str] = field(default_factory=dict)
    away: bool = False
    never: bool = False
    clients: dict[str, Client] = field(default_factory=served)
    refused: tuple[str, ...] = ("stranger",)
    instance: str = ""
    desired: str = ""


def _main_cf(*settings: str) -> str:
    return "postconf -e " + " ".join(f"'{setting}'" for setting in settings) + "\n"


def _service(line: str, *options: str) -> str:
    name, kind = line.split()[:2]
    fields = " ".join([line, *options])
    return f"postconf -M '{name}/{kind}={fields}'\n"


_MILTER = "smtpd_milters = inet:127.0.0.1:8891"
_POSTSCREEN = (
    _service("smtp inet n - y - 1 postscreen")
    + _service("smtpd pass - - y - - smtpd")
    + _service("dnsblog unix - - y - 0 dnsblog")
    + _service("tlsproxy unix - - y - 0 tlsproxy")
)
_SASL = ("smtpd_sasl_type = dovecot", "smtpd_sasl_path = private/auth")
_DOVECOT = {"auth": "dovecot /var/spool/postfix/private/auth"}

KINDS: dict[str, Kind] = {
    "milter": Kind(_main_cf(_MILTER), servers={"filter": "milter 8891"}),
    "milter-slow": Kind(_main_cf(_MILTER), servers={"filter": "milter 8891 3"}),
    "milter-down": Kind(_main_cf(_MILTER), servers={"filter": "milter 8891"}, away=True),
    "milter-never": Kind(_main_cf(_MILTER), servers={"filter": "milter 8891"}, never=True),
    "tcp-table": Kind(
        _main_cf("relay_domains = tcp:127.0.0.1:10032"),
        servers={"table": "tcp-table 10032 relay.test=OK"},
        clients=served(relayed=Client(("a@relay.test", ELSEWHERE), 25, STRANGER, OWN)),
    ),
    "socketmap": Kind(
        _main_cf("virtual_alias_maps = socketmap:inet:127.0.0.1:10033:aliases"),
        servers={"table": f"socketmap 10033 team@{DOMAIN}=joe@{DOMAIN}"},
        clients=served(team=Client((f"team@{DOMAIN}",), maildir=MAILDIR)),
    ),
    "policy": Kind(
        _main_cf("smtpd_recipient_restrictions = check_policy_service inet:127.0.0.1:10031"),
        servers={"policy": "policy 10031"},
    ),
    "postscreen": Kind(_POSTSCREEN + _main_cf("postscreen_greet_wait = 1s")),
    "postscreen-proxy": Kind(
        _POSTSCREEN
        + _main_cf("postscreen_greet_wait = 1s", "postscreen_upstream_proxy_protocol = haproxy"),
        clients=behind_a_proxy(),
    ),
    "proxy": Kind(_main_cf("smtpd_upstream_proxy_protocol = haproxy"), clients=behind_a_proxy()),
    "submission": Kind(
        _service("submission inet n - y - - smtpd", *_SECURE)
        + _service("465 inet n - y - - smtpd", *_SECURE, "-o smtpd_tls_wrappermode=yes"),
        clients=served(
            submission=Client(_LOCAL_AND_RELAYED, 587, tls="starttls"),
            smtps=Client(_LOCAL_AND_RELAYED, 465, tls="wrapped"),
            outside=Client(_LOCAL_AND_RELAYED, 587, STRANGER, OWN, tls="starttls"),
        ),
        refused=("stranger", "outside"),
    ),
    "chroot": Kind(
        _main_cf("smtpd_milters = unix:/filter/socket")
        + "install -d -o postfix -m 755 /var/spool/postfix/filter\n",
        servers={"filter": "milter /var/spool/postfix/filter/socket"},
    ),
    "sasl": Kind(_main_cf(*_SASL, "smtpd_sasl_auth_enable = yes"), servers=_DOVECOT),
    "sasl-missing": Kind(
        _main_cf(*_SASL)
        + _service("submission inet n - y - - smtpd", *_SECURE, "-o smtpd_sasl_auth_enable=yes"),
        servers=_DOVECOT,
        never=True,
        clients=served(submission=Client(_LOCAL_AND_RELAYED, 587, tls="starttls")),
    ),
    "virtual": Kind(
        _main_cf(
            "virtual_mailbox_domains = virtual.test",
            "virtual_mailbox_base = /var/vmail",
            "virtual_mailbox_maps = hash:/etc/postfix/vmailbox",
            "virtual_uid_maps = static:1000",
            "virtual_gid_maps = static:1000",
        )
        + "install -d -o 1000 -g 1000 /var/vmail\n"
        "echo 'info@virtual.test info/' > /etc/postfix/vmailbox\n"
        "postmap /etc/postfix/vmailbox\n",
        clients=served(
            boxes=Client(("info@virtual.test", "none@virtual.test"), 25, STRANGER, OWN),
            info=Client(("info@virtual.test",), maildir="/var/vmail/info"),
        ),
    ),
    "instances": Kind(
        "set -e\n"
        "postmulti -e init\n"
        f"postmulti -I {SECOND_INSTANCE} -e create\n"
        f"postconf -c /etc/{SECOND_INSTANCE} -e 'inet_interfaces = {SECOND}' "
        "'inet_protocols = ipv4' 'master_service_disable =' 'myhostname = out.example.test' "
        "'mynetworks = 127.0.0.0/8' 'smtpd_helo_required = yes'\n"
        f"postmulti -i {SECOND_INSTANCE} -e enable\n"
        "systemctl daemon-reload\n",
        clients=served(second=Client(_LOCAL_AND_RELAYED, 25, server=SECOND)),
        instance=SECOND_INSTANCE,
        desired='mynetworks = ["127.0.0.0/8"]\nmessage_size_limit = 10485760\n',
    ),
    "ipv6-off": Kind(
        "echo 'net.ipv6.conf.all.disable_ipv6 = 1' > /etc/sysctl.d/ipv6-off.conf\n"
        "sysctl -q -p /etc/sysctl.d/ipv6-off.conf\n",
        settings=f'inet_interfaces = "127.0.0.1, {OWN}"\n',
    ),
    "maillog-file": Kind(_main_cf("maillog_file = /var/log/postfix.log")),
    "list-aliases": Kind(
        "install -d /usr/local/lists\n"
        "echo 'list: joe' > /usr/local/lists/aliases\n"
        + _main_cf(
            "alias_maps = hash:/etc/aliases, hash:/usr/local/lists/aliases",
            "alias_database = hash:/etc/aliases, hash:/usr/local/lists/aliases",
        )
        + "newaliases\n",
        clients=served(list=Client(("list",), maildir=MAILDIR)),
    ),
}
