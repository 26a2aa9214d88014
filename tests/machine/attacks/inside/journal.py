"""The journal: forged records, forged words of systemd's and Postfix's, and floods."""

from __future__ import annotations

import socket
import time
from contextlib import suppress

from .ground import MARK, Steps, Won

_NATIVE = "/run/systemd/journal/socket"
_STREAM = "/run/systemd/journal/stdout"
_SYSLOG = "/dev/log"
_ID = "8f1c2a6e5d0b4c07a3f19e6b7d2c45"
_IDS = [f"{_ID}{number:02x}" for number in range(0x10, 0x1D)]
_EVENTS = ("drift-detected", "drift-corrected", "activated", "suspended", "rolled-back")
# systemd's sd-messages.h: a unit was stopped, and could not be started.
_OF_UNITS = ("9d1aaa27d60140bd96365438aad20286", "be02cf6855d2428ba40df7e9d022f03d")


def _send(text: str) -> None:
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.sendto(text.encode(), _NATIVE)


def _record(number: int) -> str:
    event, message_id = _EVENTS[number % len(_EVENTS)], _IDS[number % len(_IDS)]
    return (
        f"MESSAGE={MARK}: mynetworks was corrected\nMESSAGE_ID={message_id}\nPRIORITY=3\n"
        f"SYSLOG_IDENTIFIER=pf-agent\nPF_AGENT_EVENT={event}\nPF_AGENT_CYCLE={number}\n"
        "PF_AGENT_PARAMETER=mynetworks\nPF_AGENT_KIND=changed\nPF_AGENT_EXPECTED=x\n"
        f"PF_AGENT_ACTUAL={MARK}\nPF_AGENT_DIFF={MARK}\nPF_AGENT_DISPLACED=/etc/canary\n"
        "_UID=0\n_PID=1\n_SYSTEMD_UNIT=pf-agent.service\n"
    )


def forged_records(won: Won) -> Steps:
    """Logs records with all fields that ours have."""
    number = 0
    while True:
        for _ in range(20):
            _send(_record(number))
            number += 1
        yield
        time.sleep(0.5)


def forged_stream(won: Won) -> Steps:
    """Has what it prints logged as if our unit had printed it (sd_journal_stream_fd(3))."""
    while True:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as link:
            link.connect(_STREAM)
            link.sendall(f"pf-agent\npf-agent.service\n6\n1\n0\n0\n0\n<3>{MARK}\n".encode())
        yield
        time.sleep(0.2)


def forged_words_of_units(won: Won) -> Steps:
    """Logs that systemd stopped Postfix, and that Postfix's programs end."""
    while True:
        for unit in ("postfix.service", "postfix@-.service"):
            for message_id in _OF_UNITS:
                _send(
                    f"MESSAGE=Stopped {unit} {MARK}\nMESSAGE_ID={message_id}\nUNIT={unit}\n"
                    f"JOB_TYPE=stop\nJOB_RESULT=done\nSYSLOG_IDENTIFIER=systemd\n_PID=1\n_UID=0\n"
                )
        for program in ("master", "smtpd", "postfix-script"):
            _send(
                f"MESSAGE=fatal: {MARK}\nPRIORITY=2\nSYSLOG_FACILITY=2\n"
                f"SYSLOG_IDENTIFIER=postfix/{program}\n_SYSTEMD_UNIT=postfix@-.service\n"
            )
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
                link.sendto(f"<18>postfix/{program}[1]: fatal: {MARK}".encode(), _SYSLOG)
        yield
        time.sleep(0.2)


def flood(won: Won) -> Steps:
    """Logs 200 records a second, some of them of 40 KiB."""
    number = 0
    while True:
        for _ in range(20):
            _send(_record(number) + ("" if number % 10 else f"X={'x' * 40_000}\n"))
            number += 1
        yield
        time.sleep(0.1)
