"""How many examples hypothesis tries of each property: pytest --hypothesis-profile=few, or many."""

from hypothesis import settings

# What hypothesis takes of itself stays, among it that CI tries the same examples each time.
settings.register_profile("many", parent=settings.default, deadline=None)
settings.register_profile("few", parent=settings.default, deadline=None, max_examples=15)
settings.load_profile("many")
