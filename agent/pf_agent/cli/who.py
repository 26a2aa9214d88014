"""The user who gives an order, from sudo(8), pkexec(1) or the login."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from typing import Final

_LOGIN: Final = "/proc/self/loginuid"
# The kernel's value for a process that no login started (pam_loginuid(8)), such as a service.
_NO_LOGIN: Final = 2**32 - 1


def who_asks(environment: Mapping[str, str] = os.environ, login: str = _LOGIN) -> str:
    """Return the name of the user who runs the command; "root" only if nothing more is known.

    sudo and pkexec always set their variables themselves (sudo(8), pkexec(1), ENVIRONMENT). The
    login's user stays the same through su(1) and `sudo -i`.
    """
    name = environment.get("SUDO_USER", "")
    if name not in ("", _name_of(0)):
        return name
    for uid in (_number(environment.get("PKEXEC_UID", "")), _login_of(login)):
        if uid not in (None, 0, _NO_LOGIN):
            return _name_of(uid)
    return _name_of(os.getuid())


def _login_of(path: str) -> int | None:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return _number(file.read().strip())
    except OSError:  # a kernel without audit has no such file
        return None


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return f"uid {uid}"
