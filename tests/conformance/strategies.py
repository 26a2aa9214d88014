"""Adversarial main.cf files, and desired states that ask for something near what stands in them.

Hypothesis draws a few bytes for each line and each name, the recipe; what they choose from the
pools below is put together here. That is ten times as fast as to let it draw each piece, and
shrinks as well: pools begin with what is simplest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from hypothesis import strategies as st

from pf_agent.config.values import name_fault, value_fault
from pf_agent.maincf.document import MainCf
from pf_agent.model import BLANKS, DesiredState, Unmanaged

# Values of these may be written in more than one way; all other names take every byte as it is.
TYPED = (
    *("mynetworks", "mydestination", "relayhost", "inet_protocols", "alias_maps"),
    *("message_size_limit", "disable_vrfy_command", "biff", "queue_run_delay", "smtpd_timeout"),
    *("smtpd_recipient_restrictions", "compatibility_level", "header_checks", "default_transport"),
)
_NAMES = (
    *("a", "b", "myhostname", "smtpd_banner", *TYPED, "mail_name", "setgid_group"),
    *("config_directory", "MyHostname", "x_y", "x-y.z", "a#b", "a:b", '"a"', "{y}", "$z", "-e"),
    *("a,b", "ä", "a\u00a0", "\ufeffa", "a\x1f", "\u2028", "\\", "["),
)
# A file of names that all differ would show little: these few are met again and again.
_FILE_NAMES = (
    *(name.encode() for name in (*_NAMES, *5 * _NAMES[:4], *_NAMES)),
    *(b"\xff\xfe", b"\x80a", b"a\xa0", b"n" * 300),
)
_WORDS = (
    *("1", "x", "no", "yes", "YES", "600s", "10m", "010", "hash:/etc/aliases", "10.0.0.0/8", "all"),
    *("mail.example.test", "$myhostname", "${a}", "$(b)", "${a?{x}:{y}}", "${{$a} == {1}?x:y}"),
    *("$$", "$", "${", "}", "{ x, y }", "$a-b", '"', "'", "\\", "#", "# x", "=", "==", "a = 1"),
    *("ä", "\u00a0", "\u2028", "\x85", "\x1c", "\ufeff", "\x7f", "-", "!"),
)
# What refers to something: restrictions, tables in tables, transports, other parameters.
_REFERRING = (
    *("smtpd_recipient_restrictions", "smtpd_data_restrictions", "header_checks", "mydestination"),
    *("default_transport", "smtpd_restriction_classes", "smtpd_tls_protocols", "smtpd_banner", "a"),
)
_REFERENCES = (
    *(
        "permit_mynetworks",
        "reject_nosuch",
        "check_client_access hash:/no",
        "sleep",
        "a",
        "$nosuch",
    ),
    *("warn_if_reject", "proxy:unionmap:{hash:/no, static:x}", "{ inet:h:1, timeout = 1s }"),
    *("lmtp:unix:private/x", "/no", "!/no", ">=TLSv1.2", "zen.x=127.0.0.[2..11]", "${nosuch}"),
    *("$(nosuch)", "${nosuch?x}", "$$nosuch", "$mydomain", "inline:{ {a = b}, c = d }"),
)
_SPACES = ("", " ", ",", ", ", "\t", "\v", "\f", "\r", "  ", "\r ", " " * 300)
_PIECES = (
    *(word.encode() for word in (*_WORDS, *4 * _SPACES, *_WORDS, *_WORDS)),
    *(b"\xff", b"\x80", b"\xc3", b"\xa0", b"\xed\xa0\x80", b"\0", b"\0 x"),
)
_GAPS = (b" ", b" ", b" ", b"", b"", b"\t", b"  ", b"\v", b"\f", b"\r", b" \r\t", b" " * 200)
_STARTS = (b" ", b"\t", b"  ", b"\v", b"\f", b"\r", b" \r", b"    \t")
_SIGNS = (b"#", b"#", b"# ", b"##", b"#\t", b"#  ", b" #", b"\t# ", b"\r#")
_EMPTY = (b"", b"", b" ", b"\t", b"\r", b"\v", b" \f ", b" " * 999, b"#", b" #", b"# Prose, x = 1.")
_BROKEN = (
    *(b"no equals sign", b"x", b"= no name", b"two words = 1", b"a b", b"==", b"\0", b"\0a = 1"),
    *(b"a\0 = 1", b"<<<<<<< HEAD", b"[section]", b"include /etc/x", b"a : 1", b"\xa0"),
)
_STYLES = (
    *((b"\n",), (b"\n",), (b"\n",), (b"\n",), (b"\n",), (b"\r\n",), (b"\r\n",), (b"\r",)),
    *((b"\n", b"\r\n"), (b"\r\n", b"\n", b"\n"), (b"\n", b"\n\n"), (b"\n", b"\n", b"\r")),
)
_FILE_STARTS = (*14 * (b"",), b"\xef\xbb\xbf", b"\xff\xfe")
# What no buffer was made for.
_HUGE_HEADS = (b"a = ", b"a = 1\n ", b"# ", b"", b"a = \n\t")
_HUGE_PIECES = (b"x", b" ", b"x ", b"\xff", b"x,\n ", b"\n", b"\n#\n  y")
_HUGE_TIMES = (1000, 5000, 70000)

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Case:
    """A file, what it must come to say, and whether postconf is asked about it, too."""

    text: bytes
    desired: DesiredState
    postconf: bool


class Recipe:
    """Bytes, each of which makes one choice."""

    def __init__(self, drawn: bytes) -> None:
        self.drawn = drawn
        self._choices = iter(drawn)

    def of(self, pool: Sequence[Kind]) -> Kind:
        """Choose from the pool. Raises StopIteration when all bytes are used."""
        return pool[next(self._choices) % len(pool)]

    def one_in(self, many: int) -> bool:
        return next(self._choices) % many == many - 1

    def pieces(self, pool: Sequence[Kind]) -> Iterator[Kind]:
        """As many of them as the first byte says, three at most."""
        return (self.of(pool) for _ in range(next(self._choices) % 4))


_SOUND_KINDS = (
    *("plain", "plain", "more", "setting", "setting", "comment", "example", "empty", "setting"),
    *("plain", "more", "more", "example tail", "empty", "plain", "setting", "example", "comment"),
    *("plain", "more", "setting", "example", "plain", "more", "empty", "plain example"),
    *("reference", "reference"),
)
_LINE_KINDS = (*_SOUND_KINDS, *_SOUND_KINDS, "broken", "junk", "odd")
_LINE_BYTES = 9


def _line(drawn: bytes) -> bytes:
    recipe = Recipe(drawn)
    kind = recipe.of(_LINE_KINDS)
    if kind == "junk":
        return drawn[1:]
    if kind in ("empty", "comment"):
        return recipe.of(_EMPTY)
    if kind == "broken":
        return recipe.of(_BROKEN)
    if kind in ("more", "example tail"):
        sign = recipe.of(_SIGNS) if kind == "example tail" else b""
        return sign + recipe.of(_STARTS) + b"".join(recipe.pieces(_PIECES))
    if kind == "reference":
        words = [recipe.of(_REFERENCES) for _ in range(3)]
        return f"{recipe.of(_REFERRING)} = {', '.join(words)}".encode()
    name = recipe.of(_FILE_NAMES)
    if kind in ("plain", "plain example"):
        whole = name + recipe.of((b" = ", b"=", b" =\n ")) + recipe.of(_WORDS).encode()
        whole += recipe.of((b"", b"", b"\n\t1"))
        # As a setting of several lines looks that was commented out, or half of it.
        sign = b"#" if kind == "plain example" else b""
        return sign + whole.replace(b"\n", b"\n" + recipe.of((sign, sign, b"")))
    sign = recipe.of(_SIGNS) if kind == "example" else b""
    equals = b"" if kind == "odd" else b"="
    head = sign + name + recipe.of(_GAPS) + equals + recipe.of(_GAPS)
    return head + b"".join(recipe.pieces(_PIECES))


def _huge(recipe: Recipe) -> bytes:
    return recipe.of(_HUGE_HEADS) + recipe.of(_HUGE_PIECES) * recipe.of(_HUGE_TIMES)


def _file(lines: list[bytes], drawn: bytes) -> bytes:
    recipe = Recipe(drawn)
    ends, start = recipe.of(_STYLES), recipe.of(_FILE_STARTS)
    is_cut = recipe.one_in(3)
    if recipe.one_in(100):
        lines = [_huge(recipe), *lines]
    text = b"".join(line + ends[i % len(ends)] for i, line in enumerate(lines))
    if is_cut and lines:
        text = text[: -len(ends[(len(lines) - 1) % len(ends)])]
    return start + text


def _value(recipe: Recipe) -> str:
    """A value as desired.toml may ask for it."""
    if recipe.one_in(10):
        value = recipe.drawn.decode("latin-1").strip(BLANKS)
        if value_fault(value) is None:
            return value
    pieces = (recipe.of(_WORDS), recipe.of(_SPACES), recipe.of(_WORDS))
    return "".join(pieces[: recipe.of((1, 3, 1, 0))]).strip(BLANKS)


_STATE_BYTES = 3
_NAME_BYTES = 8


def _desired(text: bytes, names: list[bytes], drawn: bytes) -> DesiredState:
    """Ask for names and values of which some stand in the file."""
    actual = {n: v for n, v in MainCf.parse(text).parameters().items() if name_fault(n) is None}
    settings, use_default = {}, set()
    for recipe in map(Recipe, names):
        pool = (*actual, *_NAMES[:4]) if recipe.one_in(2) else _NAMES
        name, what = recipe.of(pool), recipe.of(("set", "set", "keep", "default"))
        if name in settings or name in use_default:
            continue
        if what == "default":
            use_default.add(name)
        elif what == "keep" and value_fault(actual.get(name, "\0")) is None:
            settings[name] = actual[name]
        else:
            settings[name] = _value(recipe)
    recipe = Recipe(drawn)
    unmanaged = recipe.of((*8 * (Unmanaged.KEEP,), *Unmanaged))
    ignore = recipe.of(((), ("a*", "smtpd_*")))
    return DesiredState(settings, frozenset(use_default), unmanaged=unmanaged, ignore=ignore)


def _case(drawn: tuple[list[bytes], bytes, list[bytes], bytes]) -> Case:
    lines, layout, names, state = drawn
    text = _file([_line(line) for line in lines], layout)
    return Case(text, _desired(text, names, state), state[-1] % 25 == 24)


def cases() -> st.SearchStrategy[Case]:
    """Files, each with a desired state."""
    line, name = (st.binary(min_size=size, max_size=size) for size in (_LINE_BYTES, _NAME_BYTES))
    layout = st.binary(min_size=8, max_size=8)
    state = st.binary(min_size=_STATE_BYTES, max_size=_STATE_BYTES)
    # Hypothesis alone would seldom make a long one.
    lines = st.lists(line, max_size=8) | st.lists(line, min_size=10, max_size=40)
    return st.tuples(lines, layout, st.lists(name, max_size=6), state).map(_case)
