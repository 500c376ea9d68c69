"""Probabilities from answers: the softmax, one temperature fitted on val, the mean over views."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

WIDEST = 12.0  # natural logarithm of the largest and, negative, of the smallest temperature that is tried


def probabilities_of(answers: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return (n, C) float32: the softmax of answers (V, n, C) / temperature, averaged over the views."""
    scaled = answers.astype(np.float64) / temperature
    odds = np.exp(scaled - scaled.max(axis=2, keepdims=True))
    return (odds / odds.sum(axis=2, keepdims=True)).mean(axis=0).astype(np.float32)


def fit_temperature(answers: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature that gives labels (n,) the least log loss under answers (V, n, C).

    Temperature scaling: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.
    """
    spread = float(answers.std()) or 1.0

    def loss(logarithm: float) -> float:
        probabilities = probabilities_of(answers, spread * np.exp(logarithm))
        return cross_entropy(probabilities, labels)

    grid = np.linspace(-WIDEST, WIDEST, 25)
    start = grid[int(np.argmin([loss(value) for value in grid]))]
    step = grid[1] - grid[0]
    found = minimize_scalar(
        loss, bounds=(start - step, start + step), method="bounded", options={"xatol": 1e-3}
    )
    return float(spread * np.exp(found.x))


def cross_entropy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean of -ln p(label) in nats of probabilities (n, C), which are kept above 1e-38."""
    likelihood = np.maximum(probabilities[np.arange(len(labels)), labels], np.finfo(np.float32).tiny)
    return float(-np.log(likelihood).mean())
