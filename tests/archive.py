"""Where the Debian archive is: the host's own apt says it, so that no file here has to."""

from __future__ import annotations

import subprocess

DEBIAN = "Debian"
SECURITY = "Debian-Security"


def archive(label: str) -> str:
    """Return the URI of the archive with this label, for sources.list(5).

    Source: apt-get(8), indextargets. Raises LookupError where the host's apt does not use it.
    """
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    wanted = ["Created-By: Packages", f"Origin: {DEBIAN}", f"Label: {label}"]
    said = subprocess.run([*command, *wanted], check=True, stdout=subprocess.PIPE, text=True).stdout
    if not said:
        raise LookupError(f"apt on this host has no archive {label}; add it and `apt-get update`")
    return said.split()[0]
