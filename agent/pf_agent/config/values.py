"""Values of our TOML that go into Postfix's files: what they are there, and which cannot be. Pure.

Nothing here knows Postfix's parameters: which exist depends on the installed Postfix.
"""

from __future__ import annotations

import re

from pf_agent.config.table import INT64, Table, quoting, shown
from pf_agent.model import BLANKS


def name_fault(name: str) -> str | None:
    """Return why Postfix could not read this name in main.cf (postconf(5), "File format")."""
    if not name:
        return "a parameter's name may not be empty; write one or remove it"
    if name.startswith("#"):
        return 'a parameter\'s name may not begin with "#", which starts a comment; remove it'
    if any(blank in name for blank in BLANKS):
        return "a parameter's name may not contain whitespace; remove it"
    if "=" in name:
        return 'a parameter\'s name may not contain "="; remove it'
    return unwritable("a parameter's name", name)


def value_fault(value: str) -> str | None:
    """Return why this value could not be in main.cf on its parameter's line."""
    if "\n" in value:
        return "a value may not contain a line break; put it on one line"
    return unwritable("a value", value)


def unwritable(what: str, text: str) -> str | None:
    """Return why this text could not be in any of Postfix's files."""
    if "\0" in text:
        return f"{what} may not contain a NUL; remove it"
    if re.search("[\ud800-\udfff]", text):
        return f"{what} must be valid UTF-8; remove the lone surrogate"
    return None


def path_fault(path: str) -> str | None:
    """Return why the agent could not open this path."""
    if not path.startswith("/"):
        return f"expected an absolute path, got {shown(path)}; start it with /"
    if "\n" in path:
        return "a path may not contain a line break; put it on one line"
    return unwritable("a path", path)


def value_of(section: Table, name: str, misplaced: str = "") -> str | None:
    """Return a setting's value as in main.cf; None, with a problem noted, if it has none.

    `misplaced` says why the name is none of a parameter here.
    """
    value = section.value(name)
    fault = misplaced or name_fault(name)
    if isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, str):
        text = value.strip(BLANKS)
    elif isinstance(value, int) and value in INT64:
        text = str(value)
    elif isinstance(value, list) and all(isinstance(item, str) for item in value):
        text = " ".join(value).strip(BLANKS)
    else:
        section.note(name, fault or _wrong_type(name, value))
        return None
    if fault := fault or value_fault(text):
        section.note(name, fault)
        return None
    return text


def _wrong_type(name: str, value: object) -> str:
    if isinstance(value, list):
        number, item = next(pair for pair in enumerate(value, 1) if not isinstance(pair[1], str))
        fact = f"expected an array of strings, but item {number} is {shown(item)}"
        return f"{fact}; {quoting(item)}"
    fact = f"expected a string, an integer, true, false or an array of strings, got {shown(value)}"
    if isinstance(value, dict):
        inner: object = value
        while isinstance(inner, dict) and inner:
            key, inner = next(iter(inner.items()))
            name = f"{name}.{key}"
        return f"{fact}; write one string, or quote a name that contains a dot: {shown(name)} = ..."
    return f"{fact}; {quoting(value)}"
