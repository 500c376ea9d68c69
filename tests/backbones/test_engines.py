"""Engines compute the features of TensorFlow in float32, within the tolerance, without TensorFlow."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from test_backbones import nonzero_weights

from pipeline.backbones import engines
from pipeline.backbones.engines import ENGINES, PassSpec
from pipeline.backbones.table import BACKBONES
from pipeline.errors import BadInput
from pipeline.extensions import resolve
from pipeline.features.verify import TOLERANCES

OTHERS = [engine.name for engine in ENGINES.values() if engine.package != "tensorflow"]
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)


def needs(engine: str) -> None:
    if not ENGINES[engine].is_installed:
        pytest.skip(f"{ENGINES[engine].package} is not installed")


def taps_of(engine: str, row, arrays, pooling: str, precision: str) -> list[np.ndarray]:
    options = {"image_size": 32, "input_size": 48, "precision": precision, "batch_size": 3}
    taps = [(tap, pooling) for tap in row.taps]
    return resolve(ENGINES[engine].forward)(row, arrays, PassSpec(taps=taps, **options))(IMAGES)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("pooling", ["average", pytest.param("none", marks=pytest.mark.slow)])
@pytest.mark.parametrize("backbone", ["vgg16", pytest.param("vgg19", marks=pytest.mark.slow), "resnet50"])
@pytest.mark.parametrize("engine", OTHERS)
def test_an_engine_computes_the_features_of_tensorflow(engine, backbone, pooling, precision):
    needs(engine)
    assert_computes_the_features_of_tensorflow(engine, BACKBONES[backbone], pooling, precision)


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_the_engine_for_amx_computes_the_features_of_tensorflow(precision):
    assert_computes_the_features_of_tensorflow("tensorflow-amx", BACKBONES["vgg16"], "average", precision)


def assert_computes_the_features_of_tensorflow(engine: str, row, pooling: str, precision: str) -> None:
    arrays = nonzero_weights(row)
    expected = taps_of("tensorflow", row, arrays, pooling, "float32")
    actual = taps_of(engine, row, arrays, pooling, precision)
    for one, other in zip(actual, expected, strict=True):
        assert (one.shape, one.dtype) == (other.shape, np.float32)
        gaps, largest = (np.abs(values).reshape(3, -1).max(axis=1) for values in (one - other, other))
        assert (gaps <= TOLERANCES[precision] * largest).all()
        assert largest.min() > 0


@pytest.mark.parametrize("engine", ENGINES)
def test_maps_can_be_float16_and_overflow_to_infinity(engine):
    needs(engine)
    arrays = {
        name: (kernel * 1000, bias) for name, (kernel, bias) in nonzero_weights(BACKBONES["vgg16"]).items()
    }
    options = {"image_size": 32, "input_size": 32, "precision": "float32", "batch_size": 3}
    options |= {"taps": [("block1_pool", "none"), ("block1_pool", "average")]}
    compute = resolve(ENGINES[engine].forward)
    half_spec = PassSpec(maps_dtype="float16", **options)
    full, average = compute(BACKBONES["vgg16"], arrays, PassSpec(**options))(IMAGES[:, :32, :32])
    half, same = compute(BACKBONES["vgg16"], arrays, half_spec)(IMAGES[:, :32, :32])
    assert (full.dtype, half.dtype, same.dtype) == (np.float32, np.float16, np.float32)
    np.testing.assert_allclose(same, average, rtol=1e-5)
    with np.errstate(over="ignore"):
        rounded = full.astype(np.float16)
    assert np.isinf(rounded).any() and np.isfinite(rounded).any()
    assert (np.isinf(half) == np.isinf(rounded)).mean() > 0.999  # but for values beside the largest


@pytest.mark.parametrize("engine", OTHERS)
def test_an_engine_imports_no_tensorflow(engine):
    needs(engine)
    code = (
        "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None\n"
        "from pipeline.backbones.engines import ENGINES; from pipeline.extensions import resolve\n"
        "import pipeline.features.extract, pipeline.features.passes\n"
        f"resolve(ENGINES[{engine!r}].forward); resolve(ENGINES[{engine!r}].passes)()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_engine_that_is_missing_names_its_extra(monkeypatch):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BadInput, match=r"not installed; get it with `pip install 'headstart.openvino.'`"):
        ENGINES["openvino"].check_installed()


def test_an_unknown_engine_is_an_error_that_lists_them():
    with pytest.raises(
        BadInput, match="unknown engine 'onnx': expected one of openvino, tensorflow, tensorflow-amx, torch"
    ):
        ENGINES["onnx"]
