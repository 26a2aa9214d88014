"""Much drift at once, and drift at the worst moment: a right file, and few restarts of Postfix."""

from __future__ import annotations

import pytest

from pf_agent.activation.pacing import restart_allowed_at
from pf_agent.postfix.postalias import POSTALIAS
from tests.machine.site import MAIN_CF, Site

pytestmark = pytest.mark.quiet

# Two edits of parameters that are nobody's but the administrator's, together with drift that asks
# for a correction at that moment. Prints an edit that was lost.
#
# postconf looks for main.cf.tmp, makes it where it found none, and looks again where somebody else
# just made it (util/safe_open.c). Where that one is done by then, postconf gives up, and its caller
# has to call again: 4 of 9,600 did, 64 at a time, of Postfix 3.10.13 with nobody else at work.
_EDITS = r"""
import subprocess, sys, time
path = sys.argv[1]

GIVES_UP = "main.cf.tmp: No such file or directory"

def postconf(setting):
    command = ["postconf", "-e", setting]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

def end(edit):
    _, said = edit.communicate()
    if edit.returncode and GIVES_UP in said:
        end(postconf(edit.args[-1]))
    elif edit.returncode:
        sys.exit(said)

for number in range(50):
    edits = [postconf(f"my_first={number}"), postconf(f"my_second={number}")]
    if number % 2:
        edits.append(postconf(f"mynetworks=10.0.{number}.0/24"))
    else:
        with open(path, "a") as file:
            file.write(f"mynetworks = 10.0.{number}.0/24\n")
    for edit in edits:
        end(edit)
    wanted = {f"my_first = {number}", f"my_second = {number}"}
    deadline = time.monotonic() + 20
    while lost := wanted - set(open(path, errors="replace").read().splitlines()):
        if time.monotonic() > deadline:
            sys.exit(f"lost: {lost}")
        time.sleep(0.005)
"""

# 200 writes of drift, spread evenly over two seconds.
_STORM = r"""
import os, random, subprocess, sys, time
path, good = sys.argv[1], open(sys.argv[2]).read()
folder = os.path.dirname(path)
random.seed(4711)
WRONG = {
    "mynetworks": "0.0.0.0/0",
    "smtpd_banner": "$myhostname ESMTP $mail_name",
    "message_size_limit": "0",
    "inet_protocols": "ipv4",
    "disable_vrfy_command": "no",
}

def drifted():
    name = random.choice(list(WRONG))
    lines = good.splitlines(True)
    return "".join(f"{name} = {WRONG[name]}\n" if l.startswith(f"{name} =") else l for l in lines)

def append():
    with open(path, "a") as file:
        file.write(f"mynetworks = {random.randrange(256)}.0.0.0/8\n")

def rewrite():
    with open(path, "w") as file:
        file.write(drifted())

def rename():
    with open(folder + "/new", "w") as file:
        file.write(drifted())
    os.rename(folder + "/new", path)

def sed():
    subprocess.run(["sed", "-i", "s|^mynetworks *=.*|mynetworks = ::/0|", path], check=False)

def link():
    with open("/root/target", "w") as file:
        file.write(drifted())
    os.symlink("/root/target", folder + "/new")
    os.rename(folder + "/new", path)

def truncate():
    os.truncate(path, 0)

def delete():
    os.unlink(path)

def attributes():
    os.chmod(path, random.choice([0o600, 0o666, 0o400]))
    os.chown(path, random.choice([0, 65534]), 0)

ways = [append, rewrite, rename, sed, link, truncate, delete, attributes]
begin = time.monotonic()
for number in range(200):
    try:
        random.choice(ways)()
    except FileNotFoundError:
        append()
    time.sleep(max(0, begin + (number + 1) * 0.01 - time.monotonic()))
"""


def restarts_are_spaced(site: Site) -> bool:
    """By the agent's own notes, each restart was within the budget when it was made."""
    made = site.restart_moments()
    return all(restart_allowed_at(made[:i], now) <= now for i, now in enumerate(made))


def test_drift_during_a_restart_is_corrected_at_once_and_asks_for_one_more(site: Site) -> None:
    since = site.cursor()
    with site.gate() as gate:
        site.machine.run(["postconf", "-e", "mynetworks=0.0.0.0/0"])
        gate.wait_reached()
        for name in ("mynetworks", "smtpd_banner", "inet_protocols", "mynetworks"):
            site.machine.run(["postconf", "-e", f"{name}=ipv4"])
            site.wait_right()
        assert gate.is_reached(), "the restart ended before the file was right"
        assert site.starts(since) == []
        gate.open()
        site.wait_settled()
    assert len(site.starts(since)) == 2
    assert restarts_are_spaced(site)
    assert site.serves()


def test_drift_is_corrected_while_newaliases_takes_its_time(site: Site) -> None:
    """It waits for a main.cf that was written a moment ago, and for who holds its database."""
    site.forget_restarts()
    since = site.cursor()
    held = "touch /run/newaliases-runs; until test -e /run/newaliases-may; do sleep 0.1; done"
    site.machine.run(["mv", POSTALIAS, f"{POSTALIAS}.real"])
    try:
        script = f'#!/bin/sh\n{held}\nexec {POSTALIAS}.real "$@"\n'
        site.machine.write_text(POSTALIAS, script)
        site.machine.run(["chmod", "755", POSTALIAS])
        site.machine.run(["postconf", "-e", "mynetworks=0.0.0.0/0"])
        site.machine.wait_until("test -e /run/newaliases-runs")
        for name in ("mynetworks", "smtpd_banner"):
            site.machine.run(["postconf", "-e", f"{name}=ipv4"])
            site.wait_right()
        assert site.starts(since) == []
    finally:
        site.machine.run(["mv", f"{POSTALIAS}.real", POSTALIAS])
        site.machine.run(["touch", "/run/newaliases-may"])
    site.wait_settled()
    assert len(site.starts(since)) == 1
    assert site.serves()


def test_a_storm_ends_in_the_right_file_and_few_restarts(site: Site) -> None:
    site.wait_remembered()
    since = site.cursor()
    site.machine.write_bytes("/root/good", site.good)
    site.run_python(_STORM, MAIN_CF, "/root/good")
    site.wait_right()
    site.wait_settled()
    site.wait_right()
    assert 1 <= len(site.starts(since)) <= 3
    assert restarts_are_spaced(site)
    assert site.serves()
    assert site.machine.sh("ls -A /etc/postfix | grep pf-agent; true") == ""


def test_edits_of_others_are_not_lost(site: Site) -> None:
    site.run_python(_EDITS, MAIN_CF, timeout=300)
    mine = {b"my_first = 49\n", b"my_second = 49\n"}
    site.machine.wait_until("pf-agent diff")
    lines = site.read().splitlines(keepends=True)
    assert mine <= set(lines)
    assert b"".join(line for line in lines if line not in mine) == site.good
