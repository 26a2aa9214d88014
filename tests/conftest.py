"""How many examples hypothesis tries of each property: pytest --hypothesis-profile=few, or many."""

import gc
from collections.abc import Iterator

import pytest
from hypothesis import settings

from pf_agent.words.outgoing import PROCESS

# hypothesis's other defaults stay, such as trying the same examples each time under CI.
settings.register_profile("many", parent=settings.default, deadline=None)
settings.register_profile("few", parent=settings.default, deadline=None, max_examples=15)
settings.load_profile("many")


def pytest_collection_finish() -> None:
    """Thousands of collected tests stay to the end: no collection of garbage need visit them."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _new_process() -> Iterator[None]:
    """Forget the secrets that the previous test has read."""
    PROCESS.forget()
    yield
    PROCESS.forget()
