"""Writers that race the agent for a file of Postfix, and a ledger of every text they wrote.

Runs in a machine that may be thrown away, as root: `python3 -m tests.races --help`.
"""
