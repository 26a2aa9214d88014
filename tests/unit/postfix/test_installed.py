"""What the installed Postfix is told by the main.cf that is there."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from pf_agent.errors import HostError
from pf_agent.model import Greeting, MailLog
from pf_agent.postfix.installed import Postfix

NOW = 1_764_000_000


def main_cf(folder: Path, text: str) -> None:
    path = folder / "main.cf"
    # A network interface may be missing where this runs; then mynetworks must not ask for it.
    path.write_text(f"myhostname = host.example\nmynetworks = 127.0.0.1\n{text}", "utf-8")
    os.utime(path, (NOW, NOW))


@pytest.mark.postfix
class TestGreeting:
    @pytest.mark.parametrize(
        ("settings", "address"),
        [
            ("", "127.0.0.1"),
            ("inet_interfaces = all\ninet_protocols = ipv6\n", "::1"),
            ("inet_interfaces = loopback-only\ninet_protocols = ipv4\n", "127.0.0.1"),
            ("inet_interfaces = 127.0.0.9, 127.0.0.1\n", "127.0.0.1"),
            ("inet_interfaces = 127.0.0.9, 127.0.0.8\n", "127.0.0.9"),
            ("inet_interfaces = [::1]\n", "::1"),
            ("inet_interfaces = $a\na = 127.0.0.7\n", "127.0.0.7"),
        ],
    )
    def test_where_port_25_is_asked(
        self, postfix: Postfix, folder: Path, settings: str, address: str
    ) -> None:
        main_cf(folder, settings)
        greeting = postfix.greeting()
        assert greeting is not None
        assert (greeting.address, greeting.port) == (address, 25)

    def test_the_banner_is_expanded_and_its_blanks_squeezed(
        self, postfix: Postfix, folder: Path
    ) -> None:
        main_cf(folder, "smtpd_banner = $myhostname\tESMTP   a = b\n  next\n")
        found = postfix.greeting()
        assert found is not None
        assert replace(found, stranger="") == Greeting(
            "127.0.0.1", 25, "host.example ESMTP a = b next"
        )

    @pytest.mark.parametrize(
        ("service", "settings", "told"),
        [
            ("smtpd", "", ()),
            ("smtpd", "smtpd_upstream_proxy_protocol = haproxy\n", ("proxy",)),
            ("smtpd -o smtpd_upstream_proxy_protocol=$p", "p = haproxy\n", ("proxy",)),
            ("smtpd", "postscreen_upstream_proxy_protocol = haproxy\n", ()),
            (
                "smtpd -o smtpd_upstream_proxy_protocol=",
                "smtpd_upstream_proxy_protocol = haproxy\n",
                (),
            ),
            ("postscreen", "postscreen_upstream_proxy_protocol = haproxy\n", ("proxy",)),
            ("postscreen", "smtpd_upstream_proxy_protocol = haproxy\n", ()),
            ("smtpd", "smtpd_tls_security_level = encrypt\n", ("tls",)),
            ("smtpd", "smtpd_enforce_tls = yes\n", ("tls",)),
            ("smtpd -o { smtpd_tls_security_level = encrypt }", "", ("tls",)),
            (
                "smtpd -o smtpd_tls_security_level=may",
                "smtpd_tls_security_level = encrypt\n",
                (),
            ),
            (
                "postscreen\nsmtpd pass - - y - - smtpd -o smtpd_tls_security_level=encrypt",
                "",
                ("tls",),
            ),
            (
                "postscreen\ninner pass - - y - - smtpd -o smtpd_enforce_tls=yes",
                "smtpd_service_name = inner\n",
                ("tls",),
            ),
            ("smtpd -o smtpd_tls_wrappermode=yes", "", ("wrapped",)),
        ],
    )
    def test_what_comes_before_the_mail(
        self, postfix: Postfix, folder: Path, service: str, settings: str, told: tuple[str, ...]
    ) -> None:
        main_cf(folder, settings)
        (folder / "master.cf").write_text(f"smtp inet n - y - - {service}\n")
        found = postfix.greeting()
        assert found is not None
        flags = {"proxy": found.proxy, "tls": found.tls, "wrapped": found.wrapped}
        assert {name for name, is_so in flags.items() if is_so} == set(told)

    def test_the_service_s_own_banner_is_the_one(self, postfix: Postfix, folder: Path) -> None:
        main_cf(folder, "smtpd_banner = outer\n")
        (folder / "master.cf").write_text(
            "smtp inet n - y - 1 postscreen\n"
            "smtpd pass - - y - - smtpd -o smtpd_banner=$myhostname\n"
        )
        found = postfix.greeting()
        assert found is not None
        assert found.banner == "host.example"

    def test_an_option_without_a_blank_is_read_as_by_the_daemons(
        self, postfix: Postfix, folder: Path
    ) -> None:
        main_cf(folder, "")
        (folder / "master.cf").write_text("smtp inet n - y - - smtpd -omyhostname=foo.example\n")
        found = postfix.greeting()
        assert found is not None
        assert found.banner.startswith("foo.example ESMTP")

    def test_a_master_cf_that_only_root_may_read_counts_wherever_it_is(
        self, postfix: Postfix, folder: Path
    ) -> None:
        main_cf(folder, "")
        (folder / "master.cf").rename(folder / "elsewhere")
        (folder / "elsewhere").chmod(0o600)
        (folder / "master.cf").symlink_to("elsewhere")
        assert postfix.greeting() is not None

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("smtp inet n - y - - smtpd\nx unix\n", r"master.cf:2: bad field count; correct"),
            ("smtp tcp n - y - - smtpd\n", r"master.cf:1: invalid type field; correct"),
            (None, "no Postfix program could read it"),
        ],
    )
    def test_a_master_cf_that_postfix_refuses_tells_nothing(
        self, postfix: Postfix, folder: Path, text: str | None, why: str
    ) -> None:
        main_cf(folder, "")
        if text is None:
            (folder / "master.cf").unlink()
        else:
            (folder / "master.cf").write_text(text)
        with pytest.raises(HostError, match=why):
            postfix.greeting()

    def test_where_it_logs(self, postfix: Postfix, folder: Path) -> None:
        main_cf(folder, "")
        assert postfix.mail_log() == MailLog()
        main_cf(
            folder,
            "maillog_file = $d/mail.log\nd = /var/log/x\nmulti_instance_name = postfix-out\n",
        )
        assert postfix.mail_log() == MailLog("/var/log/x/mail.log", "postfix-out")
        main_cf(folder, "oops\n")
        assert postfix.mail_log() == MailLog()

    def test_no_master_lives_in_a_queue_of_ours(
        self, postfix: Postfix, folder: Path, tmp_path: Path
    ) -> None:
        main_cf(folder, f"queue_directory = {tmp_path}/queue\n")
        assert not postfix.lives()

    @pytest.mark.parametrize(
        ("service", "serves"),
        [
            (b"smtp inet n - y - - smtpd\n", True),
            (b"25 inet n - y - - smtpd\n", True),
            (b"smtp inet n - y - 1 postscreen\nsmtpd pass - - y - - smtpd\n", True),
            (b"127.0.0.1:smtp inet n - y - - smtpd\n", True),
            (b"[::1]:25 inet n - y - - smtpd\n", True),
            (b"submission inet n - y - - smtpd\n", False),
            (b"#smtp inet n - y - - smtpd\n", False),
            (b"2525 inet n - y - - smtpd\n", False),
        ],
    )
    def test_only_a_service_on_port_25_greets(
        self, postfix: Postfix, folder: Path, service: bytes, serves: bool
    ) -> None:
        main_cf(folder, "")
        (folder / "master.cf").write_bytes(service + b"smtp unix - - y - - smtp\n")
        assert (postfix.greeting() is not None) == serves

    def test_a_service_bound_to_an_address_greets_there(
        self, postfix: Postfix, folder: Path
    ) -> None:
        main_cf(folder, "inet_interfaces = 127.0.0.9\n")
        (folder / "master.cf").write_bytes(b"127.0.0.4:smtp inet n - y - - smtpd\n")
        greeting = postfix.greeting()
        assert greeting is not None
        assert greeting.address == "127.0.0.4"

    @pytest.mark.parametrize("disable", ["inet", "$off", "smtp/inet"])
    def test_a_service_that_is_switched_off_does_not(
        self, postfix: Postfix, folder: Path, disable: str
    ) -> None:
        main_cf(folder, f"off = unix inet\nmaster_service_disable = {disable}\n")
        assert postfix.greeting() is None

    def test_a_file_that_postfix_cannot_read_is_an_error_in_its_words(
        self, postfix: Postfix, folder: Path
    ) -> None:
        main_cf(folder, "oops\n")
        with pytest.raises(HostError, match=r"^postconf: .*missing '='[^\n]*$"):
            postfix.greeting()
