"""A drop-in's text with other parts of master.cf in it: it says them, and all else stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_agent import names
from pf_agent.config import dropin_services
from pf_agent.config.desired import by_instance, load
from pf_agent.config.dropin import Wishes
from pf_agent.config.dropin_services import part_value
from pf_agent.config.table import Source
from pf_agent.errors import ConfigError
from pf_agent.model import DesiredState

pytest.importorskip("tomlkit")

PATH = "50-local.toml"
OUT = "out"
SUBMISSION = "submission/inet"
SHOWN = """\
# Our own.
use_default = ["mailq_path"]  # since March

[settings]
myhostname = "mail.example.org"  # this one

[services."2525/inet"]  # the odd one
command = "smtpd"

[instances.out]  # of the newsletter
config_directory = "/etc/postfix-out"
services."2525/inet".chroot = true
"""
FORMS = {
    "nothing": "",
    "only others": SHOWN,
    "a header": f'{SHOWN}\n[services."submission/inet"]  # ours\n',
    "an inline table": f"""{SHOWN}
[services."submission/inet"]  # ours
chroot = true  # as Debian
options = {{ smtpd_timeout = "7s", smtpd_tls_security_level = "may" }}  # both
""",
    "dotted": f"""{SHOWN}
[services."submission/inet"]
options.smtpd_timeout = "7s"  # short
process_limit = 20  # few
options.smtpd_tls_security_level = "may"
""",
    "a table of its own": f"""{SHOWN}
[services."submission/inet".options]  # all of them
smtpd_timeout = "7s"  # short
""",
    "both tables": f"""{SHOWN}
[services."submission/inet"]
chroot = true  # as Debian

[services."submission/inet".options]  # all of them
smtpd_timeout = "7s"  # short

[services."smtp/inet"]  # the last
chroot = false
""",
    "absent ones": f"""{SHOWN}
[services."submission/inet"]
use_default = [
    "smtpd_timeout",  # as of old
    "smtpd_proxy_timeout",
]
wakeup = 60
""",
    "off": f'{SHOWN}\n[services."submission/inet"]  # ours\nenabled = false  # not yet\n',
    "one line": '[services]  # all\n"submission/inet" = { chroot = true, wakeup = 60 }\n',
    "from the top": 'services."submission/inet".chroot = true  # so\n\n[settings]\na = "1"\n',
}
PARTS = {
    "": ("enabled", None),
    "chroot": ("y", "n", "-"),
    "process_limit": ("1", "50", "-"),
    "wakeup": ("60?", "0"),
    "command": ("smtpd", "postscreen"),
    "smtpd_timeout": ("7s", "9s", None),
    "smtpd_tls_security_level": ("encrypt", 'a "quoted\\" one', None),
    "smtpd_proxy_timeout": ("8s", None),
}
some_wishes = st.lists(
    st.sampled_from(sorted(PARTS)).flatmap(
        lambda part: st.tuples(st.just(part), st.sampled_from(PARTS[part]))
    ),
    min_size=1,
    max_size=6,
)


def name_of(part: str) -> str:
    return f"{SUBMISSION}/{part}" if part else SUBMISSION


def edit(text: str, wishes: Wishes, instance: str = names.DEFAULT_INSTANCE) -> str:
    return dropin_services.edited(Source(PATH, text.encode()), wishes, instance)


def without(text: str, *parts: str, instance: str = names.DEFAULT_INSTANCE) -> str:
    return dropin_services.removed(Source(PATH, text.encode()), parts, instance)


def stated(text: str, instance: str = names.DEFAULT_INSTANCE) -> DesiredState:
    return dropin_services.stated(Source(PATH, text.encode()), instance)


def said(text: str, instance: str = names.DEFAULT_INSTANCE) -> dict[str, str | None]:
    found = stated(text, instance)
    return {**found.settings, **dict.fromkeys(found.use_default)}


def comments(text: str) -> list[str]:
    return [line.partition("#")[2] for line in text.splitlines() if "#" in line]


def others(text: str) -> object:
    """What a text says of all but services of the default instance."""
    found = load([Source(PATH, text.encode())])
    every = by_instance(found)
    rest = {name: (each.settings, each.use_default) for name, each in every.items()}
    return rest, said(text, OUT) if OUT in every else None


@pytest.mark.parametrize("parts", [("command",), ("command", "process_limit")])
def test_what_stands_in_several_places_is_disabled(parts: tuple[str, ...]) -> None:
    text = FORMS["from the top"]
    for part in parts:
        text = edit(text, {name_of(part): str(PARTS[part][0])})
    text = edit(text, {SUBMISSION: None})
    assert stated(text).use_default == {SUBMISSION}


@given(form=st.sampled_from(sorted(FORMS)), wishes=some_wishes)
def test_each_wish_is_said_and_all_else_stays(
    form: str, wishes: list[tuple[str, str | None]]
) -> None:
    text = FORMS[form]
    for part, value in wishes:
        name, before = name_of(part), said(text)
        after = edit(text, {name: value})
        found = said(after)
        assert found[name] == value
        if (part, value) == ("", None):
            assert not [each for each in found if each.startswith(f"{SUBMISSION}/")]
        else:
            assert {**before, SUBMISSION: "enabled", name: value} == found
            assert set(comments(text)) - {" not yet"} <= {*comments(after), *lost(text, name)}
        assert others(after) == others(text)
        assert edit(after, {name: value}) == after
        text = after


def lost(text: str, name: str) -> list[str]:
    """The comments on the lines of a part, which may go with its former value."""
    part = name.rpartition("/")[2]
    return comments("\n".join(line for line in text.splitlines() if part in line))


@given(form=st.sampled_from(sorted(FORMS)), wishes=some_wishes)
def test_what_is_removed_is_not_said_any_more(
    form: str, wishes: list[tuple[str, str | None]]
) -> None:
    text = edit(FORMS[form], {SUBMISSION: "enabled"})
    for part, value in wishes:
        if part:
            text = edit(text, {name_of(part): value})
    for part in dict.fromkeys(part for part, _ in wishes if part):
        before = said(text)
        text = without(text, name_of(part))
        left = {n: v for n, v in before.items() if n != name_of(part)}
        # Without any key, a table that dotted keys make is not there either.
        is_gone = form == "from the top" and set(left) == {SUBMISSION}
        assert said(text) in ([left, {}] if is_gone else [left])
    assert others(text) == others(FORMS[form])


@pytest.mark.parametrize("form", sorted(FORMS))
def test_a_service_that_is_removed_is_not_managed_any_more(form: str) -> None:
    text = FORMS[form]
    if SUBMISSION not in said(text):
        return
    after = without(text, SUBMISSION)
    assert not [name for name in said(after) if name.startswith(SUBMISSION)]
    assert others(after) == others(text)


def test_another_instance_has_its_own() -> None:
    text = edit(SHOWN, {"2525/inet/chroot": "n", "submission/inet/smtpd_timeout": "7s"}, OUT)
    assert said(text, OUT) == {
        "2525/inet": "enabled",
        "2525/inet/chroot": "n",
        "submission/inet": "enabled",
        "submission/inet/smtpd_timeout": "7s",
    }
    assert said(text) == said(SHOWN)
    assert comments(text) == comments(SHOWN)


def test_several_at_once_and_in_a_new_file() -> None:
    text = edit("", {SUBMISSION: "enabled", f"{SUBMISSION}/chroot": "n", f"{SUBMISSION}/a": "1"})
    assert text == '[services."submission/inet"]\nchroot = false\noptions.a = 1\n'


def test_what_the_file_cannot_hold_is_refused_with_its_place() -> None:
    with pytest.raises(ConfigError, match=PATH):
        edit("", {"submission/inet/private": "y"})


@pytest.mark.parametrize(
    ("name", "typed", "meant"),
    [
        (SUBMISSION, "disabled", None),
        (SUBMISSION, "No", None),
        (SUBMISSION, "yes", "enabled"),
        (SUBMISSION, "enabled", "enabled"),
        (SUBMISSION, "maybe", "maybe"),
        (f"{SUBMISSION}/chroot", "no", "n"),
        (f"{SUBMISSION}/chroot", "TRUE", "y"),
        (f"{SUBMISSION}/chroot", "-", "-"),
        (f"{SUBMISSION}/wakeup", "no", "no"),
        (f"{SUBMISSION}/smtpd_sasl_auth_enable", "no", "no"),
    ],
)
def test_a_part_may_be_typed_as_a_person_would(name: str, typed: str, meant: str | None) -> None:
    assert part_value(name, typed) == meant
