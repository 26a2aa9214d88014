"""No secret that was read leaves the process, by whichever way and in whichever words."""

from __future__ import annotations

import io
import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_agent import names
from pf_agent.maincf.secrets import HIDDEN
from pf_agent.model import (
    IN_SYNC_DETAIL,
    DesiredState,
    Drift,
    DriftKind,
    Event,
    Phase,
    Record,
    Status,
    Suspension,
)
from pf_agent.words import sentences
from pf_agent.words.diffs import unified_diff
from pf_agent.words.fields import diff_dict, drift_fields
from pf_agent.words.outgoing import (
    MOST_KNOWN,
    WITHHELD,
    Hidden,
    Outgoing,
    Stream,
    withheld,
    withheld_status,
)
from pf_agent.words.status import status_dict

SECRET = "Tr0ub4dor&3"
# Each holds SECRET in another shape; what a person may still read is not looked at here.
SHAPES = [
    *(
        f"{name} = {SECRET}\n"
        for name in [
            *("relay_passwd", "relay_pass", "db_password", "mysql_pwd", "ldap_pw", "my_secret"),
            *("my_api_token", "x_key", "x_credentials", "x_apikey", "bind_pw", "BIND_PW"),
            *("x-password", "x.pass", "x_pass_2", "rootpw", "x_passphrase", "sasl_passwd_relay"),
        ]
    ),
    f"relay_pass =\n    {SECRET}\n",
    f"relay_pass =\n# a comment between\n\n\t{SECRET}\n",
    f"smtp_sasl_password_maps = hash:/etc/postfix/sasl,\n    static:anna:{SECRET}\n",
    f"relay_pass = {SECRET}\nrelay_pass = other9Word\n",
    f"relay_auth = static:anna:{SECRET}\nsmtp_sasl_password_maps = $relay_auth\n",
    f"a = ${{b}}\nx_pass = $a\nb = {SECRET}\n",
    f"x_maps = mysql:mysql://root:{SECRET}@db\n",
    f"x_maps = ldap://:{SECRET}@h\n",
    f"x_maps = ldap://anna@corp:{SECRET}@h\n",
    f"x_maps = ldap://a:one9One@h1,ldap://b:{SECRET}@h2, ldap://c:two9Two@h3\n",
    f"smtp_sasl_password_maps = inline:{{ {{[mail.example.org]:587 = anna:{SECRET}}} }}\n",
    f"x_maps = inline:{{\n  {{ x_token = {SECRET} }}\n }}\n",
    f"x_maps = {{ mysql:x, password = {SECRET} }}\n",
    f"x_maps = {{ mysql:x, password =\n  {SECRET} }}\n",
    f"relay_pass {SECRET}\n",
    f"stray {SECRET}\n",
    f"{SECRET}\n",
    f"#relay_pass = {SECRET}\n",
    f"#relay_pass =\n#   {SECRET}\n",
    f"# relay_pass: {SECRET}\n",
]


def changed(text: str) -> tuple[bytes, bytes]:
    """The text amid others, and the same with another line below."""
    head = "".join(f"p{number} = 1\n" for number in range(9))
    return f"{head}{text}a = 1\n".encode(), f"{head}{text}a = 2\n".encode()


@pytest.mark.parametrize("text", SHAPES)
def test_no_diff_shows_it(text: str) -> None:
    before, after = changed(text)
    for old, new in ((before, after), (after, b"a = 1\n"), (None, after)):
        outgoing = Outgoing()
        outgoing.read_main_cf(old)
        outgoing.read_main_cf(new)
        diff = unified_diff(old, new, "main.cf")
        fields = {names.FIELD_DIFF: diff}
        told = outgoing.record(Record(Event.DRIFT_DETECTED, "drift: a", 1, fields))
        assert "a = 2" in str(told)
        assert SECRET not in str(told)
        assert SECRET not in json.dumps(outgoing.document(diff_dict((), diff)))


# How Postfix quotes what it was given, and what comes out of `$name`.
QUOTING = [
    "main.cf: unused parameter: x_y={}",
    'bad numeric value: "{}"',
    "warning: SASL authentication failed with {} at host",
    "xx{}yy",
    "mail (root:{}@db) is away",
]


@pytest.mark.parametrize("text", [shape for shape in SHAPES if not shape.startswith("#")])
@pytest.mark.parametrize("quoting", QUOTING)
def test_no_complaint_shows_it(text: str, quoting: str) -> None:
    outgoing = Outgoing()
    outgoing.read_main_cf(text.encode())
    said = quoting.format(SECRET)
    fields = {names.FIELD_LOG: f"{said}\n{said}", names.FIELD_REASON: said}
    told = outgoing.record(Record(Event.ROLLED_BACK, said, 1, fields))
    assert SECRET not in str(told)
    assert quoting.partition("{")[0] in told.message
    status = Status(
        Phase.FAILING, 0.0, detail=said, problems=(said,), absent=(said,), stale={"/t": said}
    )
    status = Status(Phase.STALLED, 0.0, detail=said, instances={"out": status})
    found = outgoing.status(status)
    assert SECRET not in str(status_dict(found, 0.0))
    assert SECRET not in sentences.summary(found, 0.0)


def test_a_password_in_a_url_is_known_decoded_too() -> None:
    outgoing = Outgoing()
    outgoing.read_main_cf(b"x_url = pgsql://anna:p%20q%2B9@h/db\n")
    for said in ("p%20q%2B9", "p q+9", "pgsql://anna:p%20q%2B9@h/db"):
        assert "q%2B9" not in outgoing.text(f"said {said} there")
        assert "q+9" not in outgoing.text(f"said {said} there")


def test_secrets_of_master_cf() -> None:
    outgoing = Outgoing()
    text = (
        "smtp inet n - y - - smtpd\n"
        f"  -o relay_pass={SECRET}\n"
        "  -o { x_token = t0ken9X and more }\n"
        "x unix - n n - - pipe flags=R argv=/bin/x --password=arg9Ument ldap://a:url9Word@h\n"
    )
    outgoing.read_master_cf(text.encode())
    for secret in (SECRET, "t0ken9X", "arg9Ument", "url9Word"):
        assert secret not in outgoing.text(f"said {secret} of it")


@pytest.mark.parametrize(
    "line",
    [
        f'relay_pass = "{SECRET}"',
        f"relay_pass = '{SECRET}'",
        f'"relay_pass" = "{SECRET}',
        f"relay_pass = {SECRET}",
        f'settings.relay_pass = "{SECRET}"',
        f'relay_pass = ["a", "{SECRET}", 5]',
        f'relay_pass = [\n "a",\n "{SECRET}",\n 5,\n]',
        f'x_url = "ldap://anna:{SECRET}@h"',
    ],
)
def test_secrets_of_a_faulty_file_of_ours(line: str) -> None:
    outgoing = Outgoing()
    outgoing.read_toml(f'[settings]\nmydomain = "example.org"\n{line}\n'.encode())
    said = f'desired.toml:3: relay_pass: expected a string, got "{SECRET}"; mydomain example.org'
    assert outgoing.text(said) == said.replace(SECRET, HIDDEN)


def test_secrets_of_a_desired_state_and_of_its_instances() -> None:
    inner = DesiredState({"x_pass": "inner9Word"}, frozenset())
    outgoing = Outgoing()
    outgoing.read_desired(DesiredState({"x_pass": SECRET}, frozenset(), instances={"o": inner}))
    outgoing.read_settings({"y_pass": "given9Word"})
    assert outgoing.text(f"{SECRET} inner9Word given9Word") == f"{HIDDEN} {HIDDEN} {HIDDEN}"


@pytest.mark.parametrize(
    "secret", ["yes", "postfix", "password", "mynetworks", "2525", "drift", "main.cf", "127.0.0.1"]
)
def test_a_secret_that_is_a_word_makes_no_sentence_unreadable(secret: str) -> None:
    """Whoever writes main.cf must not choose what a record says."""
    outgoing = Outgoing()
    outgoing.read_main_cf(f"x_pass = {secret}\n".encode())
    said = f"drift: yes, the password of postfix on port 2525 at 127.0.0.1: {secret} again"
    if secret != "main.cf":
        assert outgoing.text(said) == said
    shown = sentences.drift_sentence(Drift("x_pass", DriftKind.CHANGED, secret, secret, 3))
    assert shown == f'x_pass is "{HIDDEN}", must be "{HIDDEN}" (line 3)'
    assert outgoing.text(f"unused parameter: x_pass={secret}").endswith(HIDDEN)
    fields = {names.FIELD_PARAMETER: secret, names.FIELD_EVENT: secret}
    assert outgoing.record(Record(Event.STARTED, "", fields=fields)).fields == fields


def test_a_word_is_hidden_where_a_value_stands() -> None:
    outgoing = Outgoing()
    outgoing.read_main_cf(b"x_pass = hunter\n")
    assert outgoing.text('bad value "hunter", the hunter') == f'bad value "{HIDDEN}", the hunter'
    assert outgoing.text("mysql://root:hunter") == f"mysql://root:{HIDDEN}"


def test_what_only_says_where_a_secret_lies_stays_readable() -> None:
    outgoing = Outgoing()
    outgoing.read_main_cf(
        b"smtp_sasl_password_maps = hash:/etc/postfix/sasl_passwd, proxy:mysql:/etc/sasl.cf\n"
        b"smtpd_tls_key_file = /etc/ssl/private/mail.pem\nx_key = /etc/x.key\n"
        b"smtp_sasl_password_result_delimiter = :\nheader_address_token_limit = 10240\n"
    )
    said = "/etc/postfix/sasl_passwd /etc/ssl/private/mail.pem hash:/etc/postfix/sasl_passwd 10240"
    assert outgoing.text(said) == said
    assert outgoing.text("x_key = /etc/x.key") == "x_key = /etc/x.key"


def test_a_secret_that_is_cut_off_is_known_by_its_beginning() -> None:
    secret = "Ab1" * 100
    outgoing = Outgoing()
    outgoing.read_main_cf(f"x_pass = {secret}\n".encode())
    assert outgoing.text(f"got {secret[:60]}... and more") == f"got {HIDDEN} and more"


def test_how_postfix_and_json_write_it() -> None:
    secret = 'pässwörd1"\\'
    outgoing = Outgoing()
    outgoing.read_main_cf(f"x_pass = {secret}\n".encode())
    for written in (secret, 'p??ssw??rd1"\\', json.dumps(secret)[1:-1]):
        assert outgoing.text(f"said {written} there") == f"said {HIDDEN} there"


def test_no_more_than_so_many_are_known_and_the_newest_are() -> None:
    outgoing = Outgoing()
    for number in range(MOST_KNOWN + 10):
        outgoing.read_settings({"x_pass": f"s3cret-{number:09d}"})
    assert HIDDEN in outgoing.text(f"s3cret-{MOST_KNOWN + 9:09d}")
    assert HIDDEN not in outgoing.text(f"s3cret-{3:09d}")


def test_a_suspension_keeps_its_reason() -> None:
    suspension = Suspension(0.0, None, "anna", "the queue moves")
    status = Status(Phase.SUSPENDED, 0.0, detail="by anna", suspension=suspension)
    assert Outgoing().status(status) == status
    assert withheld_status(status) == status


# --- standard output ------------------------------------------------------------------------------


def test_a_stream_hides_what_comes_in_pieces() -> None:
    outgoing, into = Outgoing(), io.StringIO()
    outgoing.read_settings({"x_pass": SECRET})
    stream = Stream(into, outgoing)
    for piece in (SECRET[:4], SECRET[4:], " is it\nadopt it? "):
        stream.write(piece)
    assert into.getvalue() == f"{HIDDEN} is it\n"
    stream.flush()
    assert into.getvalue() == f"{HIDDEN} is it\nadopt it? "
    stream.writelines([f"{SECRET}\n", "x\n"])
    assert into.getvalue().endswith(f"? {HIDDEN}\nx\n")


def test_json_that_was_looked_through_is_not_cut() -> None:
    outgoing, into = Outgoing(), io.StringIO()
    document = {"diff": "+x_pass = hash:/etc/x\n+b = 1\n", "n": [1, None, True]}
    Stream(into, outgoing).write(Hidden(json.dumps(outgoing.document(document))))
    assert json.loads(into.getvalue()) == document


# --- where not everybody may read main.cf ---------------------------------------------------------


def test_what_is_withheld_has_no_value() -> None:
    drift = Drift("relayhost", DriftKind.CHANGED, "expected", "actual", 3)
    record = Record(Event.DRIFT_DETECTED, "m", 1, drift_fields(drift))
    fields = withheld(record).fields
    assert (fields[names.FIELD_EXPECTED], fields[names.FIELD_ACTUAL]) == (HIDDEN, HIDDEN)
    assert fields[names.FIELD_PARAMETER] == "relayhost"
    assert withheld(Record(Event.STARTED, "m")) == Record(Event.STARTED, "m")
    inner = Status(Phase.FAILING, 0.0, detail="value", absent=("value",), stale={"value": "value"})
    status = Status(Phase.STALLED, 0.0, problems=("value", "value"), instances={"o": inner})
    told = withheld_status(status)
    assert "value" not in str(told)
    assert told.problems == (WITHHELD, WITHHELD)
    observing = Status(Phase.OBSERVING, 0.0, detail=IN_SYNC_DETAIL)
    assert withheld_status(observing).is_in_sync()
    for phase in (Phase.OBSERVING, Phase.CONTESTED, Phase.ACTIVATING):
        named = Status(phase, 0.0, detail="would change: relayhost")
        assert withheld_status(named) == named
    refused = Status(Phase.OBSERVING, 0.0, detail="value", problems=("value",))
    assert "value" not in str(withheld_status(refused))


# --- any secret -----------------------------------------------------------------------------------

NAMES = st.sampled_from(["relay_pass", "mysql_pwd", "my_api_token", "x_credentials", "BIND_PW"])
# No word and no number: those are hidden where a value stands (known_secrets.py).
SECRETS = st.text(string.ascii_letters + string.digits + "!#%&*+/<>?^_|~-", min_size=5).map(
    lambda text: f"q7{text}"
)
BETWEEN = st.sampled_from(["", "\n ", "\n# c\n\t", "\n\n  ", "\n\v", " "])
AROUND = st.text(st.characters(blacklist_characters="\n", blacklist_categories=["Cs"]), max_size=20)


@given(NAMES, SECRETS, BETWEEN, AROUND, AROUND)
def test_no_secret_leaves(name: str, secret: str, between: str, before: str, after: str) -> None:
    text = f"a = 1\n{name} ={between}{secret}\n"
    outgoing = Outgoing()
    outgoing.read_main_cf(text.encode())
    diff = unified_diff(text.encode(), text.encode() + b"b = 2\n", "main.cf")
    drift = Drift(name, DriftKind.CHANGED, secret, f"x {secret}", 2)
    said = f"{before} {secret} {after}"
    record = Record(
        Event.DRIFT_DETECTED,
        f"{sentences.drift_sentence(drift)}; {said}",
        1,
        {**drift_fields(drift), names.FIELD_DIFF: diff, names.FIELD_LOG: said},
    )
    assert secret not in diff
    told = outgoing.record(record)
    assert secret not in told.message
    assert not any(secret in value for value in told.fields.values())
    assert outgoing.record(told) == told


def test_a_table_of_many_passwords_does_not_push_out_those_of_main_cf() -> None:
    outgoing = Outgoing()
    outgoing.read_main_cf(b"x_password = Pl4nted-71-xK9\n")
    for _ in range(2):
        outgoing.read_secrets(f"user{i}:Pl4nted-{i}-xK9" for i in range(5000))
    found = outgoing.text("quoted Pl4nted-71-xK9, user3:Pl4nted-3-xK9")
    assert "Pl4nted" not in found
