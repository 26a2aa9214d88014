"""What is in force while the files are broken: the states that Postfix was last seen to serve."""

from __future__ import annotations

from pathlib import Path

import pytest

from pf_agent.files.served_states import served_of_all
from pf_agent.files.store import FileStore
from pf_agent.model import DesiredState, DocumentKind, Wishes

MAIN = DesiredState({"myhostname": "mail.example.org"}, frozenset())


@pytest.mark.parametrize(
    ("name", "kind", "part"),
    [
        ("master.cf", DocumentKind.MASTER_CF, "submission/inet"),
        ("hash:/etc/postfix/transport", DocumentKind.TABLE, "example.org"),
    ],
)
def test_a_state_is_kept_with_its_documents(
    tmp_path: Path, name: str, kind: DocumentKind, part: str
) -> None:
    folders = (str(tmp_path / "lib"), str(tmp_path / "run"))
    state = FileStore(*folders)
    inner = state.of_document(name, lambda _lines: None)
    wanted = DesiredState({part: "enabled"}, frozenset(), kind=kind)
    for store, desired in ((state, MAIN), (inner, wanted)):
        store.prepare()
        store.keep_wishes(Wishes(desired, desired))
    found = served_of_all(*folders)["-"]
    assert found.documents == {name: wanted}
    inner.keep_wishes(Wishes())
    assert served_of_all(*folders)["-"].documents == {}
