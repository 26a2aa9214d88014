"""The user who gives an order: sudo's, pkexec's, the login's; root only if none is known."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from pf_agent.cli.who import who_asks

ROOT, OTHER = pwd.getpwuid(0).pw_name, pwd.getpwnam("nobody")
NO_LOGIN = str(2**32 - 1)
NAMELESS = "3999999999"


@pytest.mark.parametrize(
    ("environment", "login", "name"),
    [
        ({"SUDO_USER": "anna"}, NO_LOGIN, "anna"),
        ({"SUDO_USER": "anna", "PKEXEC_UID": str(OTHER.pw_uid)}, str(OTHER.pw_uid), "anna"),
        # sudo in a root shell that a user opened with su.
        ({"SUDO_USER": ROOT}, str(OTHER.pw_uid), OTHER.pw_name),
        ({"PKEXEC_UID": str(OTHER.pw_uid)}, NO_LOGIN, OTHER.pw_name),
        ({"PKEXEC_UID": "0"}, str(OTHER.pw_uid), OTHER.pw_name),
        ({"PKEXEC_UID": "x"}, str(OTHER.pw_uid), OTHER.pw_name),
        ({}, str(OTHER.pw_uid), OTHER.pw_name),
        ({}, NAMELESS, f"uid {NAMELESS}"),
        ({"PKEXEC_UID": "9" * 30}, NO_LOGIN, f"uid {'9' * 30}"),
    ],
)
def test_more_than_root_is_known(
    tmp_path: Path, environment: dict[str, str], login: str, name: str
) -> None:
    kept = tmp_path / "loginuid"
    kept.write_text(login)
    assert who_asks(environment, str(kept)) == name


@pytest.mark.parametrize("login", [NO_LOGIN, "0", "", "²", None])
def test_where_nothing_more_is_known_it_is_the_user_of_the_process(
    tmp_path: Path, login: str | None
) -> None:
    kept = tmp_path / "loginuid"
    if login is not None:
        kept.write_text(login)
    assert who_asks({"SUDO_USER": ROOT}, str(kept)) == pwd.getpwuid(os.getuid()).pw_name
