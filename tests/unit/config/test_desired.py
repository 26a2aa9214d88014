"""desired.toml and its drop-ins: values, layers, problems, instances."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_agent.config.desired import by_instance, load, main_cf_of
from pf_agent.config.saved import from_json, to_json
from pf_agent.config.table import Source
from pf_agent.config.values import name_fault, value_fault
from pf_agent.errors import ConfigError
from pf_agent.model import DesiredState, Place, Unmanaged
from tests.checkout import CHECKOUT

FILE = "/etc/pf-agent/desired.toml"
DROPIN = "/etc/pf-agent/desired.d/50-site.toml"
SHIPPED = CHECKOUT / "etc" / "desired.toml"

# The guide's table.
GUIDE_SETTINGS = {
    "myorigin": "$myhostname",
    "inet_interfaces": "all",
    "mydestination": "$myhostname, localhost.$mydomain, localhost, $mydomain",
    "mynetworks": "127.0.0.0/8 [::1]/128 172.16.0.0/12 [fe80::]/64",
    "home_mailbox": "Maildir/",
    "smtpd_banner": "$myhostname ESMTP",
    "inet_protocols": "all",
    "message_size_limit": "10485760",
    "mailbox_size_limit": "1073741824",
    "syslog_facility": "mail",
    "disable_vrfy_command": "yes",
}
GUIDE_SITE_SETTINGS = {"myhostname": "subdomain.domain.tld", "mydomain": "domain.tld"}
GUIDE_USE_DEFAULT = {
    "sendmail_path",
    "newaliases_path",
    "mailq_path",
    "setgid_group",
    "html_directory",
    "manpage_directory",
    "sample_directory",
    "readme_directory",
}


def desired(*texts: str) -> DesiredState:
    files = (FILE, DROPIN, "third.toml")
    return load([Source(file, text.encode()) for file, text in zip(files, texts, strict=False)])


def refusal(*texts: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        desired(*texts)
    return caught.value.problems


def setting(value: str) -> str:
    return desired(f"[settings]\na = {value}\n").settings["a"]


class TestShippedFile:
    def test_holds_exactly_the_guides_table(self) -> None:
        read = load([Source(FILE, SHIPPED.read_bytes())])
        assert read.settings == GUIDE_SETTINGS
        assert read.use_default == GUIDE_USE_DEFAULT
        assert read.template == "/etc/postfix/main.cf.proto"

    def test_the_sites_own_names_are_commented_examples(self) -> None:
        text = SHIPPED.read_text("utf-8")
        for name in GUIDE_SITE_SETTINGS:
            assert text.count(f"\n#{name} = ") == 1
            text = text.replace(f"\n#{name} = ", f"\n{name} = ")
        assert desired(text).settings == {**GUIDE_SETTINGS, **GUIDE_SITE_SETTINGS}

    def test_every_parameter_knows_its_line(self) -> None:
        lines = SHIPPED.read_text("utf-8").splitlines()
        read = load([Source(FILE, SHIPPED.read_bytes())])
        assert read.provenance.keys() == read.parameters()
        for name, place in read.provenance.items():
            assert place.line is not None
            key = name if name in read.settings else "use_default"
            assert lines[place.line - 1].startswith(f"{key} = ")


class TestValues:
    @pytest.mark.parametrize(
        ("written", "value"),
        [
            ('"all"', "all"),
            ("'$myhostname ESMTP'", "$myhostname ESMTP"),
            ('""', ""),
            ('" \\t\\f\\r\\u000b x  y \\n"', "x  y"),
            ('"\\u00a0x"', "\u00a0x"),
            ('"""\nx"""', "x"),
            ('"""\\\n  a \\\n  b"""', "a b"),
            ('"a # b"', "a # b"),
            ("10485760", "10485760"),
            ("-1", "-1"),
            ("1_000", "1000"),
            ("0x1f", "31"),
            ("9223372036854775807", "9223372036854775807"),
            ("true", "yes"),
            ("false", "no"),
            ('["a", "b c"]', "a b c"),
            ('[\n "a", # first\n "b",\n]', "a b"),
            ("[]", ""),
            ('["", "a", ""]', "a"),
        ],
    )
    def test_becomes_what_main_cf_has(self, written: str, value: str) -> None:
        assert setting(written) == value

    ANY = "expected a string, an integer, true, false or an array of strings, got"
    ITEM = "expected an array of strings, but item"

    @pytest.mark.parametrize(
        ("written", "problem"),
        [
            ("1.5", f'{ANY} 1.5; write "1.5"'),
            ("inf", f'{ANY} inf; write "inf"'),
            ("2026-01-01", f"{ANY} a date or time; put it in quotes"),
            ("10:00:00", f"{ANY} a date or time; put it in quotes"),
            ("2026-01-01T00:00:00Z", f"{ANY} a date or time; put it in quotes"),
            (hex(2**63), f"{ANY} an integer of more than 64 bits; put it in quotes"),
            ("[1]", f'{ITEM} 1 is 1; write "1"'),
            ('["x", true]', f'{ITEM} 2 is true; write "true"'),
            ('["x", ["y"]]', f"{ITEM} 2 is an array; write one string"),
            ('[{x = "y"}]', f"{ITEM} 1 is a table; write one string"),
            (
                '{b.c = "x"}',
                f"{ANY} a table; write one string, "
                'or quote a name that contains a dot: "a.b.c" = ...',
            ),
            ('"x\\ny"', "a value may not contain a line break; put it on one line"),
            ('"""\nx\ny\n"""', "a value may not contain a line break; put it on one line"),
            ('["x", "y\\n", "z"]', "a value may not contain a line break; put it on one line"),
            ('"x\\u0000"', "a value may not contain a NUL; remove it"),
        ],
    )
    def test_that_main_cf_cannot_have(self, written: str, problem: str) -> None:
        text = f"[settings]\n\na = {written}\n"
        assert refusal(text) == (f"{FILE}:3: [settings] a: {problem}",)


class TestNames:
    @pytest.mark.parametrize(
        ("key", "fault"),
        [
            ('""', "may not be empty; write one or remove it"),
            ('"#a"', 'may not begin with "#", which starts a comment; remove it'),
            ('"my hostname"', "may not contain whitespace; remove it"),
            ('" a"', "may not contain whitespace; remove it"),
            ('"a\\t"', "may not contain whitespace; remove it"),
            ('"a\\nb"', "may not contain whitespace; remove it"),
            ('"a\\u000bb"', "may not contain whitespace; remove it"),
            ('"a\\fb"', "may not contain whitespace; remove it"),
            ('"a\\rb"', "may not contain whitespace; remove it"),
            ('"a="', 'may not contain "="; remove it'),
            ('"a\\u0000b"', "may not contain a NUL; remove it"),
        ],
    )
    def test_that_postfix_could_not_read(self, key: str, fault: str) -> None:
        shown = key.replace("\\u000b", "\\u000b").replace("\\f", "\\u000c")
        assert refusal(f"[settings]\n{key} = 1\n") == (
            f"{FILE}:2: [settings] {shown}: a parameter's name {fault}",
        )
        assert refusal(f"\nuse_default = [{key}]\n") == (
            f"{FILE}:2: use_default: {shown}: a parameter's name {fault}",
        )

    @pytest.mark.parametrize(
        "name", ["a-b", "a.b", "a#b", "{y}", "$z", "MyHostname", "Zürich", "ａ"]
    )
    def test_odd_ones_that_postfix_reads(self, name: str) -> None:
        assert desired(f'[settings]\n"{name}" = "x"\n').settings == {name: "x"}
        assert desired(f'use_default = ["{name}"]\n').use_default == {name}

    @pytest.mark.parametrize("key", ["template", "use_default", "settings"])
    def test_key_of_the_file_that_slipped_below_settings(self, key: str) -> None:
        assert refusal(f'[settings]\nmyorigin = "x"\n{key} = ["mailq_path"]\n') == (
            f"{FILE}:3: [settings] {key}: {key} is not a parameter; "
            "move it to the top of the file, above [settings]",
        )


class TestTopLevel:
    def test_nothing_said_is_an_empty_state(self) -> None:
        empty = DesiredState(settings={}, use_default=frozenset())
        assert load([]) == desired("") == desired("", "# nothing\n") == empty

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            (
                'template = "main.cf.proto"',
                'template: expected an absolute path, got "main.cf.proto"; start it with /',
            ),
            ('template = ""', 'template: expected an absolute path, got ""; start it with /'),
            (
                'template = "/a\\nb"',
                "template: a path may not contain a line break; put it on one line",
            ),
            ('template = "/a\\u0000"', "template: a path may not contain a NUL; remove it"),
            ("template = 1", 'template: expected a string, got 1; write "1"'),
            (
                'use_default = "mailq_path"',
                'use_default: expected an array of strings, got "mailq_path"; write ["mailq_path"]',
            ),
            (
                'use_default = ["a", 1]',
                'use_default: expected an array of strings, but item 2 is 1; write "1"',
            ),
            (
                "[[settings]]",
                "settings: expected a table, got an array; "
                "write [settings] on a line of its own, its keys below",
            ),
            ("[setings]", "setings: unknown key; did you mean settings?"),
            (
                'myorigin = "x"',
                "myorigin: unknown key; a Postfix parameter belongs under [settings]",
            ),
            ("a = x", "not valid TOML: Invalid value (column 5); text needs quotes"),
        ],
    )
    def test_problem(self, text: str, problem: str) -> None:
        assert refusal(text + "\n") == (f"{FILE}:1: {problem}",)

    def test_set_and_at_its_default_in_one_file(self) -> None:
        text = '\nuse_default = [\n  "mailq_path",\n]\n[settings]\nmailq_path = ""\n'
        assert refusal(text) == (
            f"{FILE}:6: [settings] mailq_path: it is also in use_default, line 2; "
            "keep one of the two",
        )


class TestLayers:
    def test_later_file_wins_parameter_by_parameter(self) -> None:
        read = desired(
            'template = "/a"\nuse_default = ["d", "e"]\n[settings]\na = 1\nb = 2\nc = 3\n',
            'use_default = ["a"]\n[settings]\nb = 20\nd = 4\n',
            'template = "/b"\n[settings]\na = 100\n',
        )
        assert read == DesiredState(
            settings={"a": "100", "b": "20", "c": "3", "d": "4"},
            use_default=frozenset({"e"}),
            template="/b",
            provenance={
                "a": Place("third.toml", 3),
                "b": Place(DROPIN, 3),
                "c": Place(FILE, 6),
                "d": Place(DROPIN, 4),
                "e": Place(FILE, 2),
            },
        )

    def test_later_use_default_takes_away_an_earlier_setting(self) -> None:
        read = desired("[settings]\na = 1\n", 'use_default = ["a"]\n')
        assert read == DesiredState({}, frozenset({"a"}), None, {"a": Place(DROPIN, 1)})

    def test_file_that_is_silent_changes_nothing(self) -> None:
        text = 'template = "/a"\nuse_default = ["b"]\n[settings]\na = 1\n'
        assert desired(text, "") == desired(text)

    def test_all_problems_of_all_files(self) -> None:
        assert refusal(
            "[settings]\nb = 1.5\na = 1979-05-27\nc = 1\n", "a = [\n", "settings = 1\nx = 1\n"
        ) == (
            f'{FILE}:2: [settings] b: {TestValues.ANY} 1.5; write "1.5"',
            f"{FILE}:3: [settings] a: {TestValues.ANY} a date or time; put it in quotes",
            f"{DROPIN}:1: not valid TOML: Invalid value (end of file); the value is not complete",
            "third.toml:1: settings: expected a table, got 1; "
            "write [settings] on a line of its own, its keys below",
            "third.toml:2: x: unknown key; a Postfix parameter belongs under [settings]",
        )


# --- what else may stand there, and other instances ----------------------------------------------


def test_what_is_not_named_is_kept_unless_told_otherwise() -> None:
    assert desired('[settings]\na = "1"\n').unmanaged is Unmanaged.KEEP
    found = desired('unmanaged = "report"\nignore = ["smtp_*", "biff"]\n')
    assert (found.unmanaged, found.ignore) == (Unmanaged.REPORT, ("smtp_*", "biff"))


def test_unmanaged_wants_one_of_three_words() -> None:
    with pytest.raises(ConfigError, match='expected "keep" or "report" or "comment_out"'):
        desired('unmanaged = "drop"\n')


def test_a_drop_in_changes_unmanaged_and_adds_to_ignore() -> None:
    found = desired('unmanaged = "report"\nignore = ["a*"]\n', 'ignore = ["b*", "a*"]\n')
    assert (found.unmanaged, found.ignore) == (Unmanaged.REPORT, ("a*", "b*"))
    assert desired('unmanaged = "report"\n', 'unmanaged = "keep"\n').unmanaged is Unmanaged.KEEP


INSTANCES = """\
[settings]
a = "1"
[instances.out]
use_default = ["b"]
unmanaged = "report"
[instances.out.settings]
a = "2"
[instances.postfix-in]
template = "/t"
config_directory = "/srv/in"
"""


def test_each_instance_has_settings_and_a_folder_of_its_own() -> None:
    found = by_instance(desired(INSTANCES))
    assert list(found) == ["-", "out", "postfix-in"]
    assert [state.settings for state in found.values()] == [{"a": "1"}, {"a": "2"}, {}]
    assert found["out"].use_default == {"b"}
    assert found["out"].unmanaged is Unmanaged.REPORT
    assert found["-"].unmanaged is Unmanaged.KEEP
    assert found["out"].provenance["a"].line == 7
    assert found["postfix-in"].template == "/t"
    paths = [main_cf_of(name, state) for name, state in found.items()]
    assert paths == ["/etc/postfix/main.cf", "/etc/postfix-out/main.cf", "/srv/in/main.cf"]


def test_a_name_of_postmultis_is_a_folders_name() -> None:
    found = by_instance(desired("[instances.postfix-out]\n"))["postfix-out"]
    assert main_cf_of("postfix-out", found) == "/etc/postfix-out/main.cf"


def test_a_drop_in_changes_one_parameter_of_an_instance() -> None:
    found = desired(INSTANCES, '[instances.out.settings]\nb = "3"\n').instances["out"]
    assert found.settings == {"a": "2", "b": "3"}
    assert found.use_default == frozenset()
    assert found.unmanaged is Unmanaged.REPORT


@pytest.mark.parametrize("name", ["-", "..", "a/b", "a b", "@x", "", "x" * 80])
def test_an_instance_is_named_as_a_unit_can_be(name: str) -> None:
    with pytest.raises(ConfigError, match="an instance's name is letters"):
        desired(f"[instances.'{name}']\n")


def test_no_two_instances_keep_one_main_cf() -> None:
    text = '[instances.a]\nconfig_directory = "/etc/postfix/"\n[instances.b]\n[instances.c]\n'
    with pytest.raises(ConfigError) as caught:
        desired(text + 'config_directory = "/etc/postfix-b"\n')
    first, second = caught.value.problems
    assert ":1: " in first
    assert "/etc/postfix is already the config_directory of the default instance" in first
    assert "/etc/postfix-b is already the config_directory of instance b" in second


def test_an_instances_faults_name_their_place() -> None:
    with pytest.raises(ConfigError) as caught:
        desired('[instances.out]\nmynetworks = "x"\nconfig_directory = "etc"\n')
    assert [problem.partition(": ")[0][-2:] for problem in caught.value.problems] == [":2", ":3"]
    assert "a Postfix parameter belongs under [instances.out.settings]" in str(caught.value)


WORDS = (
    *("[settings]", "settings", "use_default", "template", "a", "b", ".", "=", "\n", " ", ","),
    *('"a"', '"/x"', "'", '"""', "[", "]", "{", "}", "1", "1.5", "true", "#", '"\\n"', '"\\u0000"'),
)
LINES = (
    *("[settings]", "a = 1", 'b = "x"', "c = true", 'd = ["x"]', '"e f" = 1', "b.g = 1", "h = 1.5"),
    *('use_default = ["a"]', 'use_default = ["b", "="]', 'template = "/x"', 'i = """', "j = 'x'"),
    *("[instances.x]", "[instances.x.settings]", 'unmanaged = "report"', 'ignore = ["a*"]'),
    *("[other]", "k = {x = 1}", "l = [", "]", "# m = 1", "", 'settings.n = "y"', 'o = "\\u0000"'),
)
texts = st.one_of(
    st.binary(),
    st.text().map(str.encode),
    st.lists(st.sampled_from(WORDS)).map("".join).map(str.encode),
    st.lists(st.sampled_from(LINES), max_size=6).map("\n".join).map(str.encode),
)


@given(st.lists(texts, max_size=3))
def test_arbitrary_text_raises_nothing_but_config_errors(files: list[bytes]) -> None:
    problems: tuple[str, ...] = ()
    try:
        read: DesiredState | None = load(
            [Source(f"file{number}", text) for number, text in enumerate(files)]
        )
    except ConfigError as error:
        read, problems = None, error.problems
    assert all(problem.startswith("file") for problem in problems)
    assert all(problem.isprintable() for problem in problems)
    if read is None:
        assert problems
        return
    assert read.provenance.keys() == read.parameters()
    assert read.use_default.isdisjoint(read.settings)
    assert all(name_fault(name) is None for name in read.parameters())
    assert all(value_fault(value) is None for value in read.settings.values())
    assert from_json(json.loads(json.dumps(to_json(by_instance(read))))) == by_instance(read)
