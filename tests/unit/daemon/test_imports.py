"""What the daemon has not in memory, seen from processes of their own: sys.modules is for all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.package import AGENT

# What `pf-agent run` imports when it starts, and at its first correction.
USED = (
    "pf_agent.cli.main, pf_agent.cli.verbs_run, pf_agent.daemon.loop, structlog,"
    " watchdog.observers, tomli, hashlib"
)


def said(code: str) -> str:
    """What a Python prints that has just begun."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\nfrom pf_agent.daemon import imports\n{code}"],
        env={**os.environ, "PYTHONPATH": AGENT},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded(first: str) -> set[str]:
    """The modules that stand in memory after `first` and the import of what is used."""
    is_there = "m and type(m) is not imports._PutOff"
    listed = f"print(*(n for n, m in sys.modules.items() if {is_there}))"
    names = said(f"{first}\nimport {USED}\n{listed}")
    return set(names.split())


def test_the_daemon_has_nothing_that_it_does_not_use_in_memory() -> None:
    assert {"_hashlib", "subprocess"} <= loaded(""), "else there is nothing to save"
    lean = loaded("imports.forgo()")
    assert {"pf_agent.daemon.loop", "structlog", "watchdog.observers", "tomli", "hashlib"} <= lean
    roots = {name.partition(".")[0] for name in lean}
    assert not roots & {"_hashlib", "_ssl", "argparse", "bz2", "http", "lzma", "rich", "tempfile"}
    assert not roots & {"asyncio", "shutil", "subprocess", "tokenize", "uuid"}
    assert not roots & {"pickle", "selectors"}
    # On Python 3.10 a new structlog needs typing_extensions, and that needs inspect.
    assert "typing_extensions" in roots or not roots & {"ast", "dis", "inspect"}
    assert not lean & {"structlog.stdlib", "structlog.threadlocal", "structlog.twisted"}


def test_the_watch_does_not_load_them_either(tmp_path: Path) -> None:
    code = f"""
imports.forgo()
from pf_agent.watch.watch import Watch
watch = Watch("{tmp_path}", print, bool)
watch.follow("-", "{tmp_path}/main.cf", ("{tmp_path}/aliases",))
said = watch.ensure()
print(said, *(name for name in imports._PUT_OFF if type(sys.modules[name]) is not imports._PutOff))
import os
os._exit(sys.stdout.flush() or 0)
"""
    assert said(code) == "\n"


def test_what_pygobject_asks_of_asyncio_does_not_load_it() -> None:
    pytest.importorskip("gi")
    code = """
imports.forgo()
from gi.repository import GLib
loop = GLib.MainLoop()
GLib.idle_add(loop.quit)
loop.run()
GLib.MainContext.default().iteration(False)
print("asyncio.events" in sys.modules)
"""
    assert said(code) == "False\n"


def test_asyncio_answers_as_itself_once_somebody_uses_it() -> None:
    code = """
imports.forgo()
import asyncio
_get_running_loop, get_event_loop_policy = asyncio._get_running_loop, asyncio.get_event_loop_policy
print(_get_running_loop(), get_event_loop_policy().get_event_loop_for_context(None))
before = "asyncio.events" in sys.modules
print(before, type(get_event_loop_policy().new_event_loop()).__module__)
async def loops():
    return _get_running_loop() is asyncio.get_running_loop() is asyncio._get_running_loop()
print(asyncio.run(loops()), hasattr(get_event_loop_policy(), "get_event_loop_for_context"))
"""
    assert said(code).splitlines() == ["None None", "False asyncio.unix_events", "True False"]


def test_annotations_and_refusals_are_those_of_the_modules() -> None:
    code = """
import inspect, pickle
real = pickle.PicklingError, inspect.get_annotations
del sys.modules["inspect"], sys.modules["pickle"]
imports.forgo()
import inspect
from pickle import PicklingError
class Plain: pass
class Noted:
    number: int
class Heir(Noted): pass
def function(number: "int") -> None: pass
print(PicklingError is real[0], type(sys.modules["pickle"]) is imports._PutOff)
print(inspect.get_annotations(Noted), inspect.get_annotations(Plain))
print(type(sys.modules["inspect"]) is imports._PutOff)
print([inspect.get_annotations(of) == real[1](of) for of in (Noted, Plain, Heir, function)])
print(inspect.get_annotations(function, eval_str=True)["number"] is int)
from pickle import loads, dumps
print(loads(dumps([1])))
"""
    assert said(code).splitlines() == [
        "True True",
        "{'number': <class 'int'>} {}",
        "True",
        "[True, True, True, True]",
        "True",
        "[1]",
    ]


def test_hashes_are_the_same_without_libcrypto() -> None:
    code = "import hashlib\nprint(hashlib.sha256(b'main.cf').hexdigest())"
    assert said(f"imports.forgo()\n{code}") == said(code)


def test_what_was_put_off_is_there_when_it_is_used() -> None:
    code = """
imports.forgo()
import asyncio
before = "asyncio.events" in sys.modules
print(before, asyncio.run(asyncio.sleep(0, "slept")), "asyncio.events" in sys.modules)
from asyncio import run
import asyncio.events
print(asyncio.events.__name__, sys.modules["asyncio"].run is run)
"""
    assert said(code).splitlines() == ["False slept True", "asyncio.events True"]


def test_a_traceback_shows_its_lines_still() -> None:
    code = """
imports.forgo()
import json, traceback
try:
    json.loads("x")
except ValueError:
    print(traceback.format_exc())
"""
    assert "raise JSONDecodeError(" in said(code)


def test_what_is_loaded_already_stays() -> None:
    first = "import uuid, ssl\nimports.forgo()"
    assert "class" in said(f"{first}\nimport uuid, ssl\nprint(uuid.UUID, ssl.SSLError)")
