"""What attackers run in the machine, with plain python3 and nothing of the agent's.

An attack is a generator. It is under way at its first `yield`, goes on with each further one until
it is told to end, and leaves nothing behind when it is closed. What it could do and must not be
able to, it tells by `won`. A module is a kind; `python3 -m inside MODULE.ATTACK` runs one.
"""
