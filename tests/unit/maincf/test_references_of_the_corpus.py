"""Of the files of the corpus nothing is called absent but a parameter that Postfix misses, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pf_agent.maincf import parameters
from pf_agent.maincf.inventory import Inventory
from pf_agent.maincf.references import absences, references
from tests.checkout import CHECKOUT

# The files that people run stay there.
CORPUS = CHECKOUT.parent / "shared" / "corpus"
KNOWN = dict.fromkeys((line.split(" ")[0] for line in parameters.TABLE.split("\n")), "")
# A list that a template was to fill in.
TEMPLATE = "{{ grains['id'] }}"


def entries() -> list[dict[str, Any]]:
    path = CORPUS / "truth.json"
    found = json.loads(path.read_text()) if path.exists() else []
    return [each for each in found if each["explicit"] and each["postconf"]["x"]]


@pytest.mark.skipif(not (CORPUS / "truth.json").exists(), reason="the corpus is not here")
def test_the_files_that_people_run_give_no_false_alarm() -> None:
    seen = 0
    for entry in entries():
        if not Path(entry["file"]).name.startswith("real"):
            continue
        seen += 1
        expanded = {name: value or "" for name, value in entry["postconf"]["x"].items()}
        settings = {**KNOWN, "config_directory": "/etc/postfix", **expanded}
        del settings["proxy_read_maps"]
        settings["mail_version"] = entry["postfix_version"]
        inventory = Inventory(settings, None, None, lambda _path: None)
        undefined = json.dumps(entry["postconf"]["undefined"])
        for each in absences(references(entry["explicit"], inventory)):
            if each.kind == "parameter":
                assert each.name.strip("${()}") in undefined, (entry["file"], each)
            else:
                assert each.name == TEMPLATE, (entry["file"], each)
    assert seen > 70
