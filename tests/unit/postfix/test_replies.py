"""Which replies are Postfix's own trouble: those that it was seen to give."""

from __future__ import annotations

import pytest

from pf_agent.postfix.replies import is_own_trouble

OWN = """\
421 4.3.0 mail.example.test Server local error
421 mail.example.test Service unavailable - try again later
421 4.3.2 All server ports are busy
421 4.4.2 mail.example.test Error: timeout exceeded
451 4.7.1 Service unavailable - try again later
451 4.3.5 Server configuration error
451 4.3.5 <unknown[192.0.2.10]>: Client host rejected: Server configuration error
451 4.3.5 <localhost[127.0.0.1]>: Client host rejected: Server configuration problem
451 4.3.0 <postmaster@[127.0.0.1]>: Temporary lookup failure
452 4.3.1 Insufficient system storage
451 try again
451 4.3.5
"""
POLICY = """\
250 2.1.5 Ok
450 4.2.0 <x@example.org>: Recipient address rejected: Greylisted
450 4.3.2 <localhost[127.0.0.1]>: Client host rejected: Try again later
450 4.3.2 Service currently unavailable
450 4.7.0 <localhost[127.0.0.1]>: Client host rejected: defer_if_permit requested
450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.10]
450 4.1.8 <x@nowhere.example>: Sender address rejected: Domain not found
451 4.7.1 Greylisting in action, please come back in 00:05:00
421 4.7.0 mail.example.test Error: too many connections from 192.0.2.1
454 4.7.1 <x@example.org>: Relay access denied
450 come back later
503 5.7.0 Error: access denied for localhost[127.0.0.1]
550 5.5.0 Service unavailable
554 5.3.5 whatever it says
"""


@pytest.mark.parametrize("reply", OWN.splitlines())
def test_trouble_of_postfix_itself(reply: str) -> None:
    assert is_own_trouble(int(reply[:3]), reply[4:])


@pytest.mark.parametrize("reply", POLICY.splitlines())
def test_the_word_of_the_sites_policy(reply: str) -> None:
    assert not is_own_trouble(int(reply[:3]), reply[4:])


@pytest.mark.parametrize("code", [-1, 0, 199])
def test_what_is_no_reply(code: int) -> None:
    assert is_own_trouble(code, "")
