"""Debian root directories for throw-away machines, built once by mmdebstrap and cached."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.checkout import CHECKOUT

PACKAGES = (
    "acl",
    "attr",
    "dbus",
    "e2fsprogs",
    "iproute2",
    "postfix",
    "procps",
    "strace",
    "systemd",
    "systemd-sysv",
    "vim-tiny",
    # pf-agent's dependencies, so that a machine without a network can install it.
    "gir1.2-glib-2.0",
    "python3-gi",
    "python3-pydbus",
    "python3-structlog",
    "python3-systemd",
    "python3-tomli",
    "python3-tomlkit",
    "python3-watchdog",
    # The unit tests also run inside, with the release's own Python, libraries and Postfix.
    "python3-hypothesis",
    "python3-pytest",
)

# Not installed: Machine.install_kept() does that if a test asks for it.
KEPT = {
    "polkit": ("polkitd", "libpam-systemd", "pkexec"),
    "cockpit": (
        *("cockpit-bridge", "cockpit-system", "cockpit-ws"),
        *("polkitd", "libpam-systemd", "sudo"),
    ),
    "unattended-upgrades": ("unattended-upgrades",),
    "needrestart": ("needrestart",),
    "sudo": ("sudo",),
    "tables": ("postfix-cdb", "postfix-lmdb"),
}

# Before postfix is configured: the guide's answer to its question.
_ANSWER = """
echo postfix postfix/main_mailer_type select No configuration |
    chroot "$1" debconf-set-selections
"""

_KEEP = "\n".join(f"keep {folder} {' '.join(names)}" for folder, names in KEPT.items())

# The .deb of postfix stays inside: Machine.install_postfix() reinstalls it with another answer. No
# name server, no archive and no timer that needs one: a machine has no network. Nothing may hold
# apt's lock when a test installs. A machine has no disk, console or TPM either, and the generators
# that look for these are half the cost of a daemon-reload; systemd.generator(7) tells how to mask
# them.
_FINISH = f"""
set -e
keep() {{
    folder=$1
    shift
    mkdir -p "$root/srv/$folder/partial"
    chroot "$root" apt-get -q -y -o APT::Sandbox::User=root --no-install-recommends \\
        -o "Dir::Cache::archives=/srv/$folder" --download-only install "$@"
}}
root=$1
{_KEEP}
mkdir "$1/srv/postfix"
chroot "$1" sh -c 'cd /srv/postfix && apt-get -q -o APT::Sandbox::User=root download postfix'
rm -f "$1/etc/apt/sources.list" "$1"/etc/apt/sources.list.d/*
echo mail > "$1/etc/hostname"
echo 127.0.0.1 localhost > "$1/etc/hosts"
echo ::1 localhost ip6-localhost >> "$1/etc/hosts"
echo 127.0.1.1 mail.example.test mail >> "$1/etc/hosts"
: > "$1/etc/resolv.conf"
for timer in apt-daily apt-daily-upgrade; do
    ln -s /dev/null "$1/etc/systemd/system/$timer.timer"
done
mkdir -p "$1/etc/systemd/system-generators"
for generator in cryptsetup debug fstab getty gpt-auto hibernate-resume integritysetup rc-local \\
    run ssh system-update tpm2 veritysetup; do
    ln -s /dev/null "$1/etc/systemd/system-generators/systemd-$generator-generator"
done
: > "$1/etc/machine-id"
"""


class ImageError(Exception):
    """An image could not be built; the text ends with mmdebstrap's last lines."""


def cache_dir() -> Path:
    """Return the directory of everything kept between runs: $PF_AGENT_CACHE, or .cache here."""
    return Path(os.environ.get("PF_AGENT_CACHE") or CHECKOUT / ".cache").resolve()


def image(release: str) -> Path:
    """Return the root directory of a Debian release, building it (half a minute) if needed.

    The directory is the lower layer of many machines and never written to. Raises ImageError.
    """
    command = [
        "mmdebstrap",
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
        f"--essential-hook={_ANSWER}",
        f"--customize-hook={_FINISH}",
        release,
    ]
    key = hashlib.sha256("\0".join(command).encode()).hexdigest()[:12]
    machines = cache_dir() / "machines"
    machines.mkdir(parents=True, exist_ok=True)
    root = machines / f"{release}-{key}"
    with open(machines / f"{release}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.is_dir():
            _build(command, root)
    return root


def _build(command: list[str], root: Path) -> None:
    partial = root.with_name(f"{root.name}.partial")
    log = root.with_name(f"{root.name}.log")
    remove(partial)
    try:
        with open(log, "wb") as output:
            # A mount namespace of its own: whatever mmdebstrap mounts ends with it, even if it is
            # killed.
            done = subprocess.run(
                ["unshare", "--mount", *command, str(partial)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode:
            tail = log.read_text(errors="replace").splitlines()[-15:]
            raise ImageError("\n".join([f"mmdebstrap failed; its log is {log}:", *tail]))
        partial.rename(root)
    finally:
        remove(partial)


def remove(folder: Path) -> None:
    """Remove a directory, if it exists."""
    # Never shutil.rmtree here: it would descend into a file system that is still mounted below.
    subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=True)


def missing_programs() -> list[str]:
    """Return the programs that machines need and this host lacks."""
    needed = ("mmdebstrap", "systemd-nspawn", "nsenter", "unshare", "dpkg-scanpackages")
    return [name for name in needed if shutil.which(name) is None]
