"""Properties are tried on drawn examples: the same ones every time, and as long as they take."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "headstart",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("headstart")
