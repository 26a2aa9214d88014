"""What we say that the values of a file name, held to what postconf says of it."""

from __future__ import annotations

from collections import Counter

from pf_agent.maincf import parameters
from pf_agent.maincf.document import decoded
from pf_agent.maincf.inventory import Inventory
from pf_agent.maincf.references import references
from pf_agent.model import Presence
from tests.conformance.expect import expect
from tests.conformance.truth import Loaded, Printed

_UNDEFINED = b": undefined parameter: "
# Postfix has these, and they have no line in its tables of parameters.
_BUILT_IN = ("config_directory", "process_id", "process_name", "service_name")
_KNOWN = dict.fromkeys([*_BUILT_IN, *(line.split(" ")[0] for line in parameters.TABLE.split("\n"))])


def naming(loaded: Loaded, printed: Printed) -> Counter[str]:
    """A parameter of which we say that there is none: postconf says so too.

    Of all else that is named nothing can be told here, so nothing may be called absent for it.
    """
    explicit = {decoded(n): decoded(v) for n, v in (loaded.parameters or {}).items()}
    settings = {**dict.fromkeys(_KNOWN, ""), **explicit, "mail_version": "3.7.0"}
    del settings["proxy_read_maps"]
    found = references(explicit, Inventory(settings, None, None, lambda _path: None))
    absent = [each for each in found if each.presence is Presence.ABSENT]
    of_host = [each for each in absent if each.kind in ("file", "service", "socket", "table type")]
    expect(not of_host, "absent, though nobody could tell", of_host)
    if printed.exit or loaded.parameters is None:
        return Counter()
    undefined = {decoded(line.partition(_UNDEFINED)[2]) for line in printed.log}
    named = {each.name.strip("${()}") for each in absent if each.kind == "parameter"}
    expect(named <= undefined, "postconf does not miss", named - undefined)
    return Counter({"references": len(found), "parameters that are none": len(named)})
