"""Every file of a machine, before and after: what a package leaves behind."""

from __future__ import annotations

from tests.machine.nspawn import Machine

# Kind, mode, owner, and a link's target; also the contents of files below /etc and of those in
# which Debian's tools record packages.
LOOK = r"""
import hashlib, os, stat, sys
READ = ("/etc/", "/var/lib/systemd/deb-systemd")
for folder, names, files in (step for root in sys.argv[1:] for step in os.walk(root)):
    if folder == "/":
        names[:] = set(names) - {"dev", "proc", "sys", "srv", "tmp"}
    for path in (os.path.join(folder, name) for name in (*names, *files)):
        try:
            found = os.lstat(path)
            words = [stat.filemode(found.st_mode), f"{found.st_uid}:{found.st_gid}"]
            if stat.S_ISLNK(found.st_mode):
                words.append(os.readlink(path))
            elif stat.S_ISREG(found.st_mode) and path.startswith(READ):
                with open(path, "rb") as file:
                    words.append(hashlib.sha256(file.read()).hexdigest())
        except FileNotFoundError:
            continue
        sys.stdout.write("\0".join([path, *words]) + "\0\0")
"""


def tree(machine: Machine, *folders: str) -> dict[str, str]:
    """Return what exists in these directories (everywhere, without any), by path."""
    return parsed(machine.run(["python3", "-IBc", LOOK, *(folders or "/")]).stdout)


def parsed(shown: str) -> dict[str, str]:
    """Return what LOOK printed, by path."""
    found = (entry.partition("\0") for entry in shown.split("\0\0") if entry)
    return {path: words for path, _, words in found}


def changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return one line for each path that was added, removed or changed, in order."""
    differing = {path for path, _ in before.items() ^ after.items()}
    signs = {(True, False): "-", (False, True): "+", (True, True): "!"}
    return [f"{signs[path in before, path in after]}{path}" for path in sorted(differing)]
