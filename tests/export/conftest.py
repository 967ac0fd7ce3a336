"""Settings of hypothesis: the same examples in every run, however slow the machine."""

from hypothesis import settings

settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")
