"""A power cut at each step of a correction; tests/campaigns/power.py: on more file systems."""

from __future__ import annotations

import os
import stat

import pytest

from tests.campaigns.power import Unmountable, cuts

pytestmark = [
    pytest.mark.once,  # the file system decides, and each cut is a mount
    pytest.mark.skipif(os.geteuid() != 0, reason="root alone may mount"),
]
ways = pytest.mark.parametrize("is_ahead", [False, True], ids=["laid when needed", "lies ready"])


@ways
def test_a_power_cut_leaves_the_old_text_or_the_new_one(is_ahead: bool) -> None:
    try:
        found = cuts("ext4", is_ahead)
    except Unmountable as error:
        pytest.skip(str(error))
    assert [cut for cut in found if cut.fault] == []
    assert {cut.was_right for cut in found} == {False, True}
    assert len(found) >= 15


@ways
def test_a_text_that_is_not_synced_is_found_out(
    is_ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def only_folders(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            sync(handle)

    monkeypatch.setattr(os, "fsync", only_folders)
    try:
        found = cuts("ext4", is_ahead)
    except Unmountable as error:
        pytest.skip(str(error))
    assert any(cut.fault for cut in found)
