"""A key depends on everything that a result depends on, and on nothing else."""

from __future__ import annotations

import copy

import pytest

from pipeline.backbones.table import choose_weights
from pipeline.datasets.lookup import dataset_fingerprint
from pipeline.features.sections import cache_fingerprint
from pipeline.storage.fingerprint import differences, key_of


def realistic() -> dict:
    """Return the fingerprint of the features of a data set, with every type of plain value."""
    dataset = dataset_fingerprint("digits", subset=100, split_seed=0)
    weights = choose_weights("random", "vgg16")
    features = cache_fingerprint(dataset, backbone="vgg16", weights=weights, precision="float32")
    return {**features, "layers": ["block4_pool", "block5_pool"], "augmented": False, "limit": None}


def leaves(value, path=()):
    """Yield the path of every plain value in a nested fingerprint."""
    if isinstance(value, dict | list):
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*path, step))
    else:
        yield path


def changed(fingerprint: dict, path: tuple) -> dict:
    """Return a copy with another value of the same type at path."""
    result = copy.deepcopy(fingerprint)
    *parents, last = path
    container = result
    for step in parents:
        container = container[step]
    old = container[last]
    others = {bool: not old, str: f"{old}x", type(None): 0}
    container[last] = others[type(old)] if type(old) in others else old + 1
    return result


def dotted(path: tuple) -> str:
    return ".".join(map(str, path))


def reversed_keys(value):
    """Return the same nested value with the keys of every dict in the opposite order."""
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(inner) for inner in value] if isinstance(value, list) else value


def test_the_order_of_keys_does_not_matter():
    assert list(reversed_keys(realistic())) != list(realistic())
    assert key_of(reversed_keys(realistic())) == key_of(realistic())


def test_the_order_of_lists_matters():
    assert key_of({"layers": ["a", "b"]}) != key_of({"layers": ["b", "a"]})


def test_a_key_is_twelve_hex_digits_and_is_the_same_in_every_release():
    assert key_of({"name": "é", "size": 32, "fraction": 0.125}) == "44c476ff16c1"


@pytest.mark.parametrize("path", list(leaves(realistic())), ids=dotted)
def test_any_changed_field_changes_the_key_and_is_named(path):
    actual, expected = realistic(), changed(realistic(), path)
    assert key_of(actual) != key_of(expected)
    field = dotted([step for step in path if isinstance(step, str)])
    assert differences(actual, expected)[0].startswith(f"{field}: ")


def test_the_difference_is_a_readable_message():
    actual, expected = {"split": {"name": "a"}, "size": 32}, {"split": {"name": "b"}, "size": 32}
    assert differences(actual, expected) == ["split.name: a, expected b"]
    assert differences({"a": 1}, {"a": 1, "b": 2}) == ["b: nothing, expected 2"]
    assert differences({"a": 1, "b": 2}, {"a": 1}) == ["b: 2, expected nothing"]
    assert differences({"a": 1}, {"a": {"b": 1}}) == ["a: 1, expected nothing", "a.b: nothing, expected 1"]


def test_equal_fingerprints_have_no_difference():
    assert differences(realistic(), reversed_keys(realistic())) == []
    assert differences({"layers": ("a", "b")}, {"layers": ["a", "b"]}) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_refused(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        key_of({"learning_rate": value})


def test_values_that_are_not_plain_are_refused():
    with pytest.raises(TypeError, match="not JSON serializable"):
        key_of({"layers": {"a", "b"}})
