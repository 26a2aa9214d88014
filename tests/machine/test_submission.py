"""What services of master.cf show at their ports: a real smtpd, with TLS and SASL.

A script stands in for Dovecot's authentication server, which says nothing but its mechanisms.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.certificate import chain
from tests.checkout import CHECKOUT
from tests.machine.nspawn import Machine

FOLDER = "/root/submission"
# The key and its certificate.
CHAIN = "/etc/ssl/submission.pem"
DOVECOT = """
import os, socket, threading
path = "/var/spool/postfix/private/auth"
server = socket.socket(socket.AF_UNIX)
server.bind(path)
os.chmod(path, 0o666)
server.listen(50)
def talk(client):
    client.sendall(b"VERSION\\t1\\t1\\nMECH\\tPLAIN\\tplaintext\\nSPID\\t1\\nCUID\\t1\\nCOOKIE\\t0\\nDONE\\n")
    while client.recv(1000):
        pass
while True:
    client, _ = server.accept()
    threading.Thread(target=talk, args=(client,), daemon=True).start()
"""
ASK = f"""
import dataclasses, json, sys
sys.path.insert(0, "{FOLDER}/agent")
from pf_agent.postfix.installed import Postfix
from pf_agent.postfix.probe import probe
postfix = Postfix("/etc/postfix", "/run/judge")
changed = json.loads(sys.argv[1])
found = {{}}
for greeting in postfix.service_greetings({{f"{{port}}/inet" for port in range(2601, 2610)}}):
    found[greeting.port] = probe(dataclasses.replace(greeting, **changed), 15).trouble
print(json.dumps(found))
"""
GREETINGS = f"""
import json, sys
sys.path.insert(0, "{FOLDER}/agent")
from pf_agent.postfix.installed import Postfix
names = {{f"{{port}}/inet" for port in range(2601, 2610)}}
found = Postfix("/etc/postfix", "/run/judge").service_greetings(names)
print(json.dumps([[g.port, g.starttls, g.auth, g.auth_in_tls] for g in found]))
"""
AUTH = "-o smtpd_sasl_auth_enable=yes"
LEVEL = "-o smtpd_tls_security_level"
ONLY = "-o smtpd_tls_auth_only=yes"
WRAPPED = "-o smtpd_tls_wrappermode=yes"
# Port and options, and what must be offered: STARTTLS, AUTH before TLS, AUTH within it.
SERVICES: dict[int, tuple[str, tuple[bool | None, bool | None, bool | None]]] = {
    2601: (f"{LEVEL}=encrypt {AUTH}", (True, False, True)),
    2602: (f"{WRAPPED} {AUTH}", (None, None, True)),
    2603: (f"{LEVEL}=may {AUTH}", (True, True, True)),
    2604: (f"{LEVEL}=may {ONLY} {AUTH}", (True, False, True)),
    2605: (f"{LEVEL}=none {AUTH}", (False, True, None)),
    2606: (f"{LEVEL}=may", (True, False, False)),
    2607: (f"{LEVEL}= -o smtpd_enforce_tls=yes {AUTH}", (True, False, True)),
    2608: (f"{LEVEL}=none {ONLY} {AUTH}", (False, False, None)),
    2609: (WRAPPED, (None, None, False)),
}
MAIN_CF = {
    "smtpd_tls_chain_files": CHAIN,
    "smtpd_sasl_type": "dovecot",
    "smtpd_sasl_path": "private/auth",
}


@pytest.fixture(scope="module")
def serving(internet_site: Machine) -> Iterator[Machine]:
    machine = internet_site
    machine.copy_in([CHECKOUT / "agent"], FOLDER)
    machine.write_text(CHAIN, chain())
    machine.run(["mkdir", "-p", "/run/judge"])
    lines = [f"{port} inet n - n - - smtpd {options}" for port, (options, _) in SERVICES.items()]
    stock = machine.read_text("/etc/postfix/master.cf")
    machine.write_text("/etc/postfix/master.cf", "\n".join([stock, *lines, ""]))
    machine.run(["postconf", "-e", *(f"{name} = {value}" for name, value in MAIN_CF.items())])
    with machine.start(["python3", "-c", DOVECOT]) as dovecot:
        machine.wait_until("test -S /var/spool/postfix/private/auth")
        machine.run(["systemctl", "restart", "postfix"])
        yield machine
        dovecot.terminate()


def heard(serving: Machine, **changed: bool | None) -> dict[int, str]:
    """What is wrong at each port, if other things than its own are expected of it."""
    asked = serving.run(["python3", "-B", "-c", ASK, json.dumps(changed)])
    return {int(port): trouble for port, trouble in json.loads(asked.stdout).items()}


def test_each_shows_what_its_settings_say(serving: Machine) -> None:
    asked = serving.run(["python3", "-B", "-c", GREETINGS]).stdout
    shown = {port: tuple(offers) for port, *offers in json.loads(asked)}
    assert shown == {port: offers for port, (_, offers) in SERVICES.items()}
    assert heard(serving) == dict.fromkeys(SERVICES, "")


def test_trouble_is_told_where_it_is_not_as_desired(serving: Machine) -> None:
    found = heard(serving, starttls=True, auth=True, auth_in_tls=None, wrapped=False, tls=False)
    assert "does not offer AUTH before TLS" in found[2601]
    assert "does not offer STARTTLS before TLS" in found[2605]
    assert found[2603] == ""
    found = heard(serving, starttls=None, auth=None, auth_in_tls=False)
    assert "offers AUTH within TLS" in found[2601]
    assert "offers AUTH within TLS" in found[2602]
    assert found[2606] == ""
