"""The fixed world in which every case is tried: what there is besides Debian's own Postfix.

The host is mail.example.test, 127.0.0.1; its second address 192.0.2.9 is no friend. A machine has
no network. main.cf is BASE and the case's settings, master.cf Debian's.

| what | of which |
| --- | --- |
| users | alice, bob; vmail is 5000:5000 and owns /var/mail/vhosts |
| /etc/aliases, /usr/local/lists/aliases | with index |
| /etc/postfix: there, virtual, mailboxes, vdomains, destinations, senders | hash, with index |
| /etc/postfix: source-only | a source without index |
| /etc/postfix: index-only.db | a hash index without source |
| /etc/postfix: tree | btree, with index |
| /etc/postfix: regexp, cidr, destinations.regexp, networks.cidr, empty | read as they are |
| /etc/postfix: domains, networks, origin | lists for `/file` |
| /etc/postfix: memcache.cf, folder/ | nobody listens there; a folder |
| /etc/postfix/tls: key, cert, other-key, each .pem | of a certificate that it signed itself |
| /etc/postfix/tls: chain.pem, secret-key.pem | key and certificate; the key, mode 0600 |
| private/there | LMTP; takes all mail |
| private/policy, private/milter, private/auth | DUNNO; accepts; Dovecot's |
| private/socketmap | an empty table |
| ports of 127.0.0.1 | 53 DNS, 2424 LMTP, 2525 SMTP with STARTTLS, 8891 milter, 10032 policy, |
| | 10033 tcp_table(5), 10034 socketmap_table(5): both empty |

DNS knows every name below example.test, example.org and example.net, and no other.
Nothing listens on port 9; /etc/mailname, nosuch and nothere are not there. Of the
packages with table types (postfix-pcre, -ldap, -mysql, -sqlite, -lmdb) none is installed.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from tests.machine.nspawn import Machine
from tests.machine.sites import servers
from tests.references import inside, sink

PROGRAMS = "/root/references"
BASE = {
    "compatibility_level": "3.6",
    "myhostname": "mail.example.test",
    "mydomain": "example.test",
    "myorigin": "$mydomain",
    "mydestination": "$mydomain, $myhostname, localhost",
    "mynetworks": "127.0.0.0/8",
    "inet_interfaces": "all",
    "inet_protocols": "ipv4",
    "alias_maps": "hash:/etc/aliases",
    "alias_database": "hash:/etc/aliases",
    # For speed alone.
    "service_throttle_time": "1s",
    "smtpd_error_sleep_time": "0",
}
_HASHES = {
    "there": "192.0.2.66 REJECT",
    "virtual": "nobody@virtual.example.test bob@example.test",
    "mailboxes": "alice@virtual.example.test virtual.example.test/alice",
    "vdomains": "virtual.example.test OK",
    "destinations": "example.test OK",
    "senders": "carol@example.org carol",
    "source-only": "192.0.2.66 REJECT",
    "index-only": "192.0.2.66 REJECT",
}
_FILES = {
    "tree": "192.0.2.66 REJECT",
    "regexp": "/^nobody-says-this$/ REJECT",
    "cidr": "192.0.2.66/32 REJECT",
    "destinations.regexp": r"/^example\.test$/ OK",
    "networks.cidr": "127.0.0.0/8 OK",
    "empty": "",
    "domains": "example.test mail.example.test",
    "networks": "127.0.0.0/8",
    "origin": "example.test",
    "memcache.cf": "memcache = inet:127.0.0.1:9\nmax_try = 1",
}
_SETTLE = r"""
set -e
ip address add 192.0.2.9/32 dev lo
mkdir -p /etc/systemd/journald.conf.d
printf '[Journal]\nRateLimitBurst=0\n' > /etc/systemd/journald.conf.d/all.conf
systemctl restart systemd-journald
useradd --create-home alice
useradd --create-home bob
useradd --uid 5000 --home-dir /var/mail/vhosts vmail
mkdir -p /var/mail/vhosts/virtual.example.test /usr/local/lists /etc/postfix/folder
chown -R vmail:vmail /var/mail/vhosts
echo 'postmaster: root' > /etc/aliases
echo 'list: alice' > /usr/local/lists/aliases
cd /etc/postfix
cp master.cf /root/references/master.cf
for name in there virtual mailboxes vdomains destinations senders index-only; do
    postmap hash:$name
done
rm index-only
rm -f /etc/mailname
postmap btree:tree
postalias hash:/etc/aliases hash:/usr/local/lists/aliases
cat tls/key.pem tls/cert.pem > tls/chain.pem
install -m 600 tls/key.pem tls/secret-key.pem
chmod 644 tls/chain.pem tls/cert.pem
# Fills the chroot; on Debian 13 `postfix check` does it, and the script refuses.
/usr/lib/postfix/configure-instance.sh - 2>/dev/null || true
postfix check
find /etc/postfix /etc/aliases* /usr/local/lists -type f -exec touch -d '-1 hour' {} +
find /etc/postfix /etc/aliases* /usr/local/lists -name '*.db' -exec touch -d '-50 min' {} +
"""
_PRIVATE = "/var/spool/postfix/private"
_SERVERS = {
    "sink": f"sink.py /etc/postfix/tls/chain.pem {_PRIVATE}/there",
    "policy": "servers.py policy 10032",
    "policy-socket": f"servers.py policy {_PRIVATE}/policy",
    "milter": "servers.py milter 8891",
    "milter-socket": f"servers.py milter {_PRIVATE}/milter",
    "tcp": "servers.py tcp-table 10033",
    "socketmap": "servers.py socketmap 10034",
    "socketmap-socket": f"servers.py socketmap {_PRIVATE}/socketmap",
    "dovecot": f"servers.py dovecot {_PRIVATE}/auth",
}


def has(path: str) -> bool | None:
    """Tell whether there is this file; None where the world says nothing of its folder."""
    folder, _, name = path.rpartition("/")
    if folder == "/etc/postfix":
        if name == "index-only":
            return False
        source = name.removesuffix(".db")
        made = name.endswith(".db") and source != "source-only" and source in (*_HASHES, "tree")
        return made or name in (*_HASHES, *_FILES, "folder", "main.cf", "master.cf")
    if folder == "/etc/postfix/tls":
        return name in ("key.pem", "cert.pem", "other-key.pem", "chain.pem", "secret-key.pem")
    if folder == _PRIVATE:
        return name in ("there", "policy", "milter", "socketmap", "auth")
    if folder in ("/etc", "/usr/local/lists") and name.startswith("aliases"):
        return name in ("aliases", "aliases.db")
    return False if name.startswith(("nosuch", "nothere")) else None


def main_cf(settings: dict[str, str]) -> str:
    """Return main.cf with these settings over BASE."""
    return "".join(f"{name} = {value}\n" for name, value in {**BASE, **settings}.items())


def settle(machine: Machine) -> str:
    """Make the world in a machine that has just booted; return Debian's master.cf."""
    programs = [Path(str(module.__file__)) for module in (servers, inside, sink)]
    machine.copy_in(programs, PROGRAMS)
    with tempfile.TemporaryDirectory() as scratch:
        folder = _tls(Path(scratch))
        machine.copy_in([folder], "/etc/postfix")
    for name, line in {**_HASHES, **_FILES}.items():
        machine.write_text(f"/etc/postfix/{name}", f"{line}\n" if line else "")
    machine.write_text("/etc/postfix/main.cf", main_cf({}))
    machine.sh(_SETTLE, timeout=180)
    for name, command in _SERVERS.items():
        serving = ["systemd-run", "--quiet", f"--unit=world-{name}", "--property=Type=notify"]
        machine.run([*serving, "sh", "-c", f"exec python3 {PROGRAMS}/{command}"])
    return machine.read_text(f"{PROGRAMS}/master.cf")


def _tls(scratch: Path) -> Path:
    """Make a key with its certificate, and the key of another, in a folder `tls`."""
    folder = scratch / "tls"
    folder.mkdir()
    for key, certificate in (("key", "cert"), ("other-key", "other-cert")):
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650"]
        command += ["-subj", "/CN=mail.example.test", "-keyout", f"{key}.pem"]
        subprocess.run(
            [*command, "-out", f"{certificate}.pem"], cwd=folder, check=True, capture_output=True
        )
    return folder
