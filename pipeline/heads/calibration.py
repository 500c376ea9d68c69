"""Turn logits into probabilities: temperature scaling, softmax, the mean over views."""

import keras
import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from pipeline.training.classifier import cross_entropy

MAX_LOG_TEMPERATURE = 12.0  # natural log; temperatures from exp(-12) to exp(12) times the spread are tried


def probabilities_of(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return the softmax of logits (V, n, C) / temperature, averaged over views: (n, C) float32."""
    scaled = logits.astype(np.float64) / temperature
    return softmax(scaled, axis=2).mean(axis=0).astype(np.float32)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature that minimizes the log loss of labels (n,) given logits (V, n, C).

    Temperature scaling: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.
    """
    spread = float(logits.std()) or 1.0

    def loss(log_temperature: float) -> float:
        probabilities = probabilities_of(logits, spread * np.exp(log_temperature))
        return cross_entropy(probabilities, labels)

    grid = np.linspace(-MAX_LOG_TEMPERATURE, MAX_LOG_TEMPERATURE, 25)
    start = grid[int(np.argmin([loss(value) for value in grid]))]
    step = grid[1] - grid[0]
    bounds = (start - step, start + step)
    result = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-3})
    return float(spread * np.exp(result.x))


def with_probabilities(model: keras.Model, temperature: float | None) -> keras.Model:
    """Return a model that divides model's logits by temperature, if given, and applies the softmax."""
    logits = model.output
    if temperature is not None:
        logits = keras.layers.Rescaling(1 / temperature, dtype="float32", name="calibrated")(logits)
    return keras.Model(model.input, keras.layers.Softmax(dtype="float32", name="probabilities")(logits))
