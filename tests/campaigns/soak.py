"""Drift every second for 20 minutes: what the daemon holds at the end is what it held at first.

Every second main.cf is changed in another way, a status is asked for over D-Bus and the figures
over HTTP. Once a minute the agent is made to forget the contest, so that Postfix is restarted all
the time and not every five minutes.

Memory is the part of PSS that is the daemon's own, anonymous and shared memory: of the pages of
files, its share falls and rises with every other process that has them, in other machines too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pf_agent import names
from pf_agent.files.displaced_texts import DISPLACED_COUNT
from tests.checkout import CHECKOUT
from tests.machine.image import image
from tests.machine.nspawn import Machine
from tests.machine.site import MAIN_CF, Site

RELEASES = ("bookworm", "trixie")
PORT = 9825
OPTIONS = f"""
[watch]
look_every_seconds = 30
[metrics]
textfile = "/var/lib/pf-agent.prom"
listen = "127.0.0.1:{PORT}"
"""

# So many KiB more than after the first minute is a leak.
MOST_GROWTH_KIB = 1024
_MOST_FILES = DISPLACED_COUNT + 25
# What a correction and a writer that goes on may have at work just then.
_WORK = 5
# A look takes so long, and is to be over before the unrest is.
_LOOK_SECONDS = 5

_UNREST = r"""
import os, random, subprocess, sys, time, urllib.request
path, seconds, port = sys.argv[1], float(sys.argv[2]), sys.argv[3]
good = open(path).read()
random.seed(4711)
names = ["mynetworks", "smtpd_banner", "message_size_limit", "inet_protocols", "home_mailbox"]

def drifted():
    name = random.choice(names)
    wrong = random.choice(["0.0.0.0/0", "ipv4", "12345678", "$myhostname ESMTP $mail_name"])
    lines = good.splitlines(True)
    return "".join(f"{name} = {wrong}\n" if l.startswith(f"{name} =") else l for l in lines)

def append():
    with open(path, "a") as file:
        file.write(f"mynetworks = {random.randrange(256)}.0.0.0/8\n")

def rewrite():
    with open(path, "w") as file:
        file.write(drifted())

def rename():
    with open(path + ".new", "w") as file:
        file.write(drifted())
    os.rename(path + ".new", path)

def link():
    with open("/root/target", "w") as file:
        file.write(drifted())
    os.symlink("/root/target", path + ".new")
    os.rename(path + ".new", path)

def attributes():
    os.chmod(path, random.choice([0o600, 0o666, 0o400]))

def postconf():
    subprocess.run(["postconf", "-e", "mynetworks=0.0.0.0/0"], check=True)

def hold_open():
    with open(path, "r+") as file:
        file.write(drifted())
        file.flush()
        time.sleep(0.5)
        file.truncate()

ways = [append, rewrite, rename, link, attributes, postconf, hold_open]
ways += [lambda: os.truncate(path, 0), lambda: os.unlink(path)]
phase = ["busctl", "get-property", "org.pfagent.Agent1", "/org/pfagent/Agent1"]
phase += ["org.pfagent.Agent1", "Phase"]
begin, number = time.monotonic(), 0
while number < seconds:
    try:
        random.choice(ways)()
    except FileNotFoundError:
        append()
    subprocess.run(phase, stdout=subprocess.DEVNULL, check=True)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        assert b"pf_agent_up 1" in answer.read()
    number += 1
    time.sleep(max(0, begin + number - time.monotonic()))
print(number)
"""

# The least of some glances: a lock, a probe or a judge comes and goes.
_LOOK = r"""
import json, os, subprocess, sys, time

def glance(pid):
    with open(f"/proc/{pid}/smaps_rollup") as file:
        shares = dict(line.split()[:2] for line in list(file)[1:])
    own = int(shares["Pss_Anon:"]) + int(shares["Pss_Shmem:"])
    pss = int(shares["Pss:"])
    links = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            links.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            continue
    held = [link for link in links if not link.endswith("/activation.lock")]
    return own, pss, len(held), len(os.listdir(f"/proc/{pid}/task"))

def files(folder):
    return sum(len(names) for _, _, names in os.walk(folder))

show = ["systemctl", "show", "-P", "MainPID", "pf-agent"]
pid = int(subprocess.run(show, stdout=subprocess.PIPE, check=True).stdout)
glances = []
for _ in range(20):
    glances.append(glance(pid))
    time.sleep(0.1)
with open(f"/proc/{pid}/stat") as file:
    fields = file.read().rpartition(")")[2].split()
cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
print(json.dumps([pid, cpu, *map(min, zip(*glances)), *map(files, sys.argv[1:])]))
"""


@dataclass(frozen=True)
class Sample:
    """What the daemon holds at one moment: memory in KiB, processor time in seconds, and counts."""

    pid: int
    cpu: float
    own: int
    pss: int
    descriptors: int
    threads: int
    kept_files: int
    run_files: int
    postfix_files: int

    def __str__(self) -> str:
        return (
            f"its own {self.own} KiB, PSS {self.pss} KiB,"
            f" {self.descriptors} descriptors, {self.threads} threads,"
            f" files: {self.kept_files} + {self.run_files} + {self.postfix_files},"
            f" processor {self.cpu:.1f} s"
        )


def prepare(machine: Machine) -> Site:
    """On a machine with pf-agent, open every way out; return the site once all is settled."""
    machine.write_text(f"{names.CONFIG_DIRECTORY}/{names.AGENT_TOML}", OPTIONS)
    machine.run(["systemctl", "reload", "pf-agent"])
    site = Site.prepared(machine)
    site.wait_remembered()
    return site


def sample(site: Site) -> Sample:
    """Look at the daemon, for two seconds."""
    folders = [names.STATE_DIRECTORY, names.RUN_DIRECTORY, os.path.dirname(MAIN_CF)]
    return Sample(*json.loads(site.run_python(_LOOK, *folders)))


def soak(site: Site, seconds: int, every: int) -> Iterator[Sample]:
    """Let main.cf drift every second for so long, and yield a sample every so many of them."""
    unrest = site.machine.start(
        ["python3", "-c", _UNREST, MAIN_CF, str(seconds), str(PORT)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    begin = time.monotonic()
    try:
        for count in range(1, seconds // every + 1):
            time.sleep(max(0, begin + count * every - _LOOK_SECONDS - time.monotonic()))
            site.end_contest()
            yield sample(site)
        _, complaints = unrest.communicate(timeout=seconds)
        assert unrest.returncode == 0, complaints.decode()
    finally:
        unrest.kill()
        unrest.communicate()


def faults(first: Sample, last: Sample, growth: int = MOST_GROWTH_KIB) -> list[str]:
    """What is more under the last drift than it was under the first."""
    found = []
    if last.pid != first.pid:
        found.append("the daemon was started anew")
    if last.own >= first.own + growth:
        found.append(f"its memory grew by {last.own - first.own} KiB")
    if last.kept_files > _MOST_FILES:
        found.append(f"{last.kept_files} files below {names.STATE_DIRECTORY}")
    if last.run_files > first.run_files + _WORK:
        found.append(f"{last.run_files} files below {names.RUN_DIRECTORY}")
    if last.postfix_files > first.postfix_files + _WORK:
        found.append(f"{last.postfix_files} files beside main.cf")
    return found


def calm(site: Site, before: Sample) -> list[str]:
    """What is wrong once nobody changes main.cf any more, or is more than before anybody did."""
    # Not `wait_right`: Debian's start of Postfix puts parameters of its own into a main.cf that it
    # finds empty, and these are nobody's business but Postfix's.
    site.machine.wait_until("pf-agent diff")
    site.end_contest()
    site.wait_settled()
    after = sample(site)
    found = [] if site.serves() and site.is_obeyed() else ["Postfix does not run as desired"]
    counts = ("descriptors", "threads", "run_files", "postfix_files")
    if any(getattr(after, name) > getattr(before, name) for name in counts):
        found.append(f"something is left: {after}; before: {before}")
    return found


def campaign(deb: Path, seconds: int, release: str) -> list[str]:
    """One release; return the faults."""

    def say(text: object) -> None:
        print(f"soak: {release}: {text}", flush=True)

    with Machine(image(release)) as machine:
        machine.serve_apt([deb])
        machine.apt_install("pf-agent")
        site = prepare(machine)
        site.drift_once()  # the connection to systemd is there from then on
        since, before = site.cursor(), sample(site)
        say(before)
        samples = []
        for each in soak(site, seconds, every=60):
            samples.append(each)
            say(each)
        found = faults(samples[0], samples[-1]) + calm(site, before)
        say(f"{len(site.records('drift-corrected', since))} corrections")
        say(f"{len(site.starts(since))} restarts of Postfix")
    for fault in found:
        say(f"FAULT: {fault}")
    return found


def main() -> int:
    """Return 0 only where no fault was found."""
    parser = argparse.ArgumentParser(prog="tools/campaign soak", description=__doc__)
    parser.add_argument("--seconds", type=int, default=1200, help="of drift (1200)")
    parser.add_argument("--release", choices=RELEASES, action="append", help="only this one")
    arguments = parser.parse_args()
    if arguments.seconds < 120:
        parser.error("the first minute is what the last is measured by: --seconds 120 at least")
    with ThreadPoolExecutor() as pool:
        one = partial(campaign, _package(), arguments.seconds)
        count = sum(map(len, pool.map(one, arguments.release or RELEASES)))
    print(f"soak: {count} faults")
    return 1 if count else 0


def _package() -> Path:
    """Build the package from this checkout; return the .deb."""
    quick = {**os.environ, "DEB_BUILD_OPTIONS": "nocheck", "DEB_BUILD_PROFILES": "nocheck"}
    done = subprocess.run(
        [CHECKOUT / "tools" / "deb"], check=True, env=quick, stdout=subprocess.PIPE, text=True
    )
    return Path(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
