"""Which units stand in the way of a restart."""

from __future__ import annotations

from pf_agent.bus.conflict import parts_in_the_way


def test_a_part_that_conflicts_is_in_the_way() -> None:
    """As systemd 257 says it of postfix.service after an upgrade to Debian 13."""
    parts = ["postfix@-.service", "postfix@out.service"]
    properties = {"ConsistsOf": parts, "Conflicts": ["shutdown.target", "postfix@-.service"]}
    assert parts_in_the_way(properties) == ("postfix@-.service",)


def test_what_only_conflicts_or_is_only_a_part_is_not() -> None:
    properties = {"ConsistsOf": ["postfix@-.service"], "Conflicts": ["exim4.service"]}
    assert parts_in_the_way(properties) == ()
