"""The questions to Postfix about a candidate, and how its answers are read. Pure.

judge.py does the asking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from pf_agent.maincf import aliases, values
from pf_agent.maincf.document import MainCf
from pf_agent.maincf.service import Service
from pf_agent.model import Fault

# smtpd_service() first of all refuses an argument (smtpd/smtpd.c): by then every fault in the
# parameters was found, and no client was greeted, logged or looked up.
_NO_SERVICE: Final = "pf-agent-asks-for-no-service"
_SERVED_NOBODY: Final = f"unexpected command-line argument: {_NO_SERVICE}"
# Makes a program log to a socket that does not exist until it has read main.cf: a candidate's
# faults do not belong in the mail log (global/maillog_client.c).
UNLOGGED: Final = {"POSTLOG_SERVICE": "/nonexistent/log"}
# Makes smtpd talk to us only. With a log file of its own, which is never read, it writes nothing to
# syslog. Without a certificate it loads no keys and does not ask tlsmgr for entropy (a sleep
# while Postfix is down), but still reads the TLS level.
_ALONE: Final = {
    "maillog_file_prefixes": "/dev/stdout",
    "maillog_file": "/dev/stdout",
    "postlog_service_name": "no",
    **{f"smtpd_tls_{kind}_file": "" for kind in ("cert", "dcert", "eccert")},
    "smtpd_tls_chain_files": "",
}
# Two come from the way we ask; the third is about the `nis:` in Postfix's own default of
# alias_maps.
_NOT_TOLD: Final = (
    "No server certs available.",
    "Need a server cert to request",
    "dict_nis_init: NIS domain name not set",
)
# postconf(5): the only default that names proxymap(8) and that smtpd opens.
_LOCAL_RECIPIENTS: Final = {"local_recipient_maps": "proxy:unix:passwd.byname $alias_maps"}


def smtpd_arguments(service: Service, explicit: Mapping[str, str], directory: str) -> list[str]:
    """Return the arguments with which smtpd reads its parameters, and does nothing else.

    It gets the options that `service` gives it, and opens by itself the tables that proxymap would
    open for it: while Postfix is down, proxymap makes its clients wait forever.
    """
    opened = {**_LOCAL_RECIPIENTS, **explicit}
    settings = [
        *(f"{name}={value}" for name, value in opened.items() if "proxy:" in value),
        *(f"{name}={value}" for name, value in service.options().items()),
    ]
    settings = [setting.replace("proxy:", "") for setting in settings]
    settings += [f"{name}={value}" for name, value in _ALONE.items()]
    options = [word for s in (*settings, f"config_directory={directory}") for word in ("-o", s)]
    return ["-n", service.name, "-V", *options, "-S", _NO_SERVICE]


def told_by_smtpd(
    lines: Sequence[str],
    effective: Mapping[str, str],
    faults: Sequence[Fault],
    exists: Callable[[str], bool],
) -> Iterator[str]:
    """Yield smtpd's messages, without those that our way of asking causes or `faults` contains.

    A database that the next newaliases builds is not missing.
    """
    built = tuple(f"open database {path}: " for path in aliases.buildable(effective, exists))
    told = {fault.reason for fault in faults}
    for line in lines:
        if line not in told and not line.startswith((_SERVED_NOBODY, *_NOT_TOLD, *built)):
            yield line


def served_nobody(line: str) -> bool:
    """Whether smtpd exited because we made it to, and had found no fault before."""
    return line.startswith(_SERVED_NOBODY)


def settings(output: str) -> dict[str, str]:
    """Return the settings that postconf printed as `name = value` lines."""
    lines = (line.partition("=") for line in output.split("\n"))
    return {name.strip(): value.strip() for name, equals, value in lines if equals}


def faults(
    main_cf: MainCf, effective: Mapping[str, str], exists: Callable[[str], bool]
) -> tuple[Fault, ...]:
    """Return the values in `main_cf` that a daemon would refuse, and the missing alias files."""
    found = {}
    for name, raw in main_cf.parameters().items():
        if name not in effective:
            continue  # not Postfix's own; there may be very many, and each would be looked up
        # postconf squeezes blanks, so its value is only used if there is something to expand.
        words = values.fault(name, effective.get(name, raw) if "$" in raw else raw)
        if words:
            found[name] = Fault(name, words)
    for name, words in values.pair_faults(effective).items():
        found.setdefault(name, Fault(name, words))
    for name in ("daemon_directory", "command_directory"):  # postfix(1) enters them as it starts
        if name in effective and not exists(effective[name]):
            found[name] = Fault(name, f"chdir({effective[name]}): No such file or directory")
    return (*found.values(), *aliases.faults(effective, exists))
