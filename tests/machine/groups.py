"""Control groups: one for each machine, in every hierarchy of the host.

Without it a machine shares /payload with all others, since `systemd-nspawn --keep-unit` creates
none: two machines then see each other's units, and killing by control group fails.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_JOIN = 'for group in $1; do echo $$ > "$group/cgroup.procs"; done; shift; exec "$@"'


def control_groups(name: str) -> list[Path]:
    """Return the paths of control groups of this name, one in each hierarchy; not yet created."""
    mine = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        mine[controllers] = path
    return [Path(parent) / name for parent in _parents(mine)]


def joining(groups: Sequence[Path], command: Sequence[str]) -> list[str]:
    """Return the command line that enters these control groups and becomes `command`."""
    words = " ".join(str(group) for group in groups)
    return ["sh", "-c", _JOIN, "sh", words, *command]


def _parents(mine: Mapping[str, str]) -> Iterator[str]:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, kind, options, *_ = line.split()
        words = set(options.split(","))
        if kind == "cgroup2" or "name=systemd" in words:
            # At the top: inside a login session nspawn refuses --keep-unit.
            yield mount
        elif kind == "cgroup":
            # Below our own, so that our limits apply to the machine too.
            yield mount + next(path for c, path in mine.items() if c and words >= set(c.split(",")))
