"""The speed of an engine is measured by passes over random images."""

from __future__ import annotations

import pytest

from pipeline.features import passes


@pytest.mark.slow
def test_a_rate_is_measured_and_reported_as_progress(monkeypatch):
    monkeypatch.setattr(passes, "MEASURED_SECONDS", 0.1)
    steps = []
    rate = passes.images_per_second("tensorflow", "float32", 32, lambda *step: steps.append(step))
    assert 1 < rate < 1e6
    assert steps == [("measure tensorflow", 0, 1, "engines")]
