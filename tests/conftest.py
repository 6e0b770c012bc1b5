"""Settings of all tests."""

from hypothesis import settings

# No timing assertions, hypothesis's own included: the first call may compile.
settings.register_profile("appulse", deadline=None)
settings.load_profile("appulse")
