"""Links, FIFOs and files without an end, wherever the attacker may write."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from itertools import product

from .ground import CANARY, HOME, MARK, Steps, Won, forbidden, link_to, open_and_close, planted

_EVERYBODYS = ("/tmp", "/var/tmp", "/run/lock", "/dev/shm")
_LIKELY = (
    *("main.cf", "main.cf.tmp", ".main.cf.pf-agent-abc", "pf-agent", "pf-agent.lock", "pf_agent"),
    *("desired.toml", "postfix", "aliases.db", "judge", "lock", "status.json", ".X11-unix"),
)
_PLACES = [f"{folder}/{name}" for folder, name in product(_EVERYBODYS, _LIKELY)]
_QUEUE = "/var/spool/postfix"
_DATA = "/var/lib/postfix"
_TABLE = f"{HOME}/table"
_KEPT = ("/var/lib/pf-agent", "/run/pf-agent-errands", "/var/lib/pf-agent-notify")
_RUN = "/run/pf-agent"


def _waiting() -> Steps:
    while True:
        yield
        time.sleep(0.05)


def links_in_everybodys_folders(won: Won) -> Steps:
    """Plants links to a file of root's under all names that a program might use there."""
    with planted(_PLACES, link_to(CANARY)):
        yield from _waiting()


def fifos_in_everybodys_folders(won: Won) -> Steps:
    """Plants FIFOs under all names that a program might use there."""
    with planted(_PLACES, os.mkfifo):
        yield from _waiting()


def second_names(won: Won) -> Steps:
    """Gives main.cf and root's other files a second name in its own home."""
    named = {
        f"{HOME}/{path.replace('/', '_')}": path
        for path in (
            *("/etc/postfix/main.cf", "/etc/postfix/master.cf", "/etc/aliases", "/etc/aliases.db"),
            *("/etc/pf-agent/desired.toml", "/run/pf-agent/status.json", CANARY),
        )
    }
    while True:
        with planted(named, lambda name: os.link(named[name], name)):
            yield
            time.sleep(0.05)


def _in_the_place_of(path: str, *ways: Callable[[str], object]) -> Steps:
    """Put one thing after the other where an own file was; a rename each, as fast as it goes."""
    number = 0
    new = f"{path}.{MARK}"
    kept = f"{path}.kept"
    os.rename(path, kept)
    try:
        while True:
            with suppress(OSError):
                ways[number % len(ways)](new)
                os.rename(new, path)
            number += 1
            yield
            time.sleep(0.02)
    finally:
        os.rename(kept, path)


def _huge(path: str) -> None:
    """One line of 64 MiB. Not /dev/zero: Postfix's own programs would take all of the memory."""
    with open(path, "w", encoding="ascii") as file:
        file.truncate(64 << 20)


def alias_source_in_a_home(won: Won) -> Steps:
    """Has an alias file of its own lead to root's files, and its database, too."""
    source = f"{HOME}/aliases"
    database, kept = f"{source}.db", f"{source}.db.kept"
    os.rename(database, kept)
    try:
        os.symlink(CANARY, f"{database}.{MARK}")
        os.replace(f"{database}.{MARK}", database)
        yield from _in_the_place_of(
            source, link_to("/etc/hosts"), link_to(CANARY), link_to("/etc/aliases")
        )
    finally:
        os.replace(kept, database)


def alias_source_that_holds_up(won: Won) -> Steps:
    """Has a FIFO, a huge file and a terminal in the place of an alias file of its own."""
    return _in_the_place_of(f"{HOME}/aliases", os.mkfifo, _huge, link_to("/dev/tty"))


def table_that_holds_up(won: Won) -> Steps:
    """Has a FIFO, a huge file and a link to root's in the place of a table of its own."""
    return _in_the_place_of(_TABLE, os.mkfifo, _huge, link_to(CANARY))


def include_that_holds_up(won: Won) -> Steps:
    """Has the same in the place of a list that /etc/aliases includes."""
    return _in_the_place_of(f"{HOME}/list", os.mkfifo, _huge, link_to(CANARY))


def postfixs_data(won: Won) -> Steps:
    """Puts FIFOs and links in the place of all that lies in Postfix's data folder."""
    while True:
        with ExitStack() as stack:
            for name in os.listdir(_DATA):
                path, kept = f"{_DATA}/{name}", f"{_DATA}/.{name}.kept"
                if not name.startswith("."):
                    os.rename(path, kept)
                    stack.callback(os.replace, kept, path)
            names = [f"{_DATA}/{name}" for name in ("master.lock", "prng_exch", MARK)]
            stack.enter_context(planted(names[:2], os.mkfifo))
            stack.enter_context(planted(names[2:], link_to(CANARY)))
            for _ in range(10):
                yield
                time.sleep(0.05)
        yield
        time.sleep(0.2)


def postfixs_sockets(won: Won) -> Steps:
    """Takes Postfix's sockets away, again and again, with FIFOs and links in their place."""
    while True:
        for folder in ("private", "public"):
            for name in os.listdir(f"{_QUEUE}/{folder}"):
                with suppress(OSError):
                    os.unlink(f"{_QUEUE}/{folder}/{name}")
                    if name in ("retry", "error", "showq"):
                        os.mkfifo(f"{_QUEUE}/{folder}/{name}")
                    else:
                        os.symlink(CANARY, f"{_QUEUE}/{folder}/{name}")
            yield
        time.sleep(0.5)


def postfixs_queue(won: Won) -> Steps:
    """Fills the queue's folders with links, FIFOs and garbage."""
    folders = ("maildrop", "incoming", "active", "deferred", "corrupt", "hold")
    places = [f"{_QUEUE}/{folder}/{number:X}" for folder in folders for number in range(40)]
    third = len(places) // 3

    def garbage(path: str) -> None:
        with open(path, "wb") as file:
            file.write(f"fatal: {MARK}\n".encode() * 1000)
        os.chmod(path, 0o700)

    with (
        planted(places[:third], link_to(CANARY)),
        planted(places[third : 2 * third], os.mkfifo),
        planted(places[2 * third :], garbage),
    ):
        yield from _waiting()


def reading_what_is_roots(won: Won) -> Steps:
    """Reads, and lists, whatever the agent keeps."""
    kept = [f"{folder}/{name}" for folder in _KEPT for name in ("pending.json", "displaced", "")]
    locks = [f"{_RUN}/{name}" for name in ("lock", "activation.lock", "restarts.json")]
    while True:
        for path in (*kept, CANARY, *locks):
            forbidden(won, f"opened {path}", open_and_close, path)
        for folder in _KEPT:
            forbidden(won, f"listed {folder}", os.listdir, folder)
        yield
        time.sleep(0.05)


def writing_to_what_is_roots(won: Won) -> Steps:
    """Writes to all that the agent, its configuration and its program lie in."""
    own = ["/etc/pf-agent", "/etc/pf-agent/desired.d", "/usr/lib/pf-agent", _RUN, *_KEPT]
    folders = [*own, "/etc/postfix", "/etc", "/run", "/run/systemd/system", "/usr/lib/systemd"]
    paths = ["/etc/postfix/main.cf", "/usr/bin/pf-agent", "/etc/pf-agent/desired.toml"]
    paths += [f"{_RUN}/status.json", "/etc/aliases", "/etc/aliases.db"]
    flags = os.O_WRONLY | os.O_CREAT
    while True:
        for path in [*(f"{folder}/{MARK}" for folder in folders), *paths]:
            forbidden(won, f"opened {path}", open_and_close, path, flags)
            forbidden(won, f"removed {path}", os.unlink, path)
            forbidden(won, f"dated {path}", os.utime, path, (1, 1))
        yield
        time.sleep(0.05)


def modules_of_its_own(won: Won) -> Steps:
    """Lays a pf_agent, and modules of the names that it imports, where root may stand."""
    folder = f"/var/tmp/{MARK}"
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(f"{folder}/pf_agent/cli")
    told = "import os\nos.geteuid() or open('/var/tmp/ran-as-root', 'w')\n"
    ran = f"{told}raise SystemExit('{MARK}')\n"
    names = ("tomli", "tomllib", "json", "structlog", "sitecustomize", "usercustomize", "argparse")
    for path in (*(f"{name}.py" for name in names), "pf_agent/__init__.py"):
        with open(f"{folder}/{path}", "w", encoding="ascii") as file:
            file.write(ran)
    try:
        yield from _waiting()
    finally:
        shutil.rmtree(folder)
