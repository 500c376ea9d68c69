"""A key stands for everything that a result depends on, and for nothing else."""

from __future__ import annotations

import copy

import pytest

from pipeline.backbones.table import choose_weights
from pipeline.datasets.lookup import dataset_fingerprint
from pipeline.features.sections import cache_fingerprint
from pipeline.storage.fingerprint import first_difference, key_of


def realistic() -> dict:
    """Return the fingerprint of the features of a data set, with every kind of plain value in it."""
    dataset = dataset_fingerprint("digits", subset=100, split_seed=0)
    weights = choose_weights("hed", "vgg16")
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
    """Return a copy in which the value at path is another one of the same kind."""
    copied = copy.deepcopy(fingerprint)
    *way, last = path
    place = copied
    for step in way:
        place = place[step]
    old = place[last]
    others = {bool: not old, str: f"{old}x", type(None): 0}
    place[last] = others[type(old)] if type(old) in others else old + 1
    return copied


def dotted(path: tuple) -> str:
    return ".".join(map(str, path))


def turned(value):
    """Return the same nested value with the keys of every dict in the opposite order."""
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(value)}
    return [turned(inner) for inner in value] if isinstance(value, list) else value


def test_the_order_of_keys_does_not_matter():
    assert list(turned(realistic())) != list(realistic())
    assert key_of(turned(realistic())) == key_of(realistic())


def test_the_order_of_lists_matters():
    assert key_of({"layers": ["a", "b"]}) != key_of({"layers": ["b", "a"]})


def test_a_key_is_twelve_hex_digits_and_stays_the_same_from_release_to_release():
    assert key_of({"name": "é", "size": 32, "fraction": 0.125}) == "44c476ff16c1"


@pytest.mark.parametrize("path", list(leaves(realistic())), ids=dotted)
def test_any_changed_field_changes_the_key_and_is_named(path):
    have, want = realistic(), changed(realistic(), path)
    assert key_of(have) != key_of(want)
    named = dotted([step for step in path if isinstance(step, str)])
    assert first_difference(have, want).startswith(f"{named}: ")


def test_the_difference_is_told_in_words():
    have, want = {"weights": {"name": "hed"}, "size": 32}, {"weights": {"name": "imagenet"}, "size": 32}
    assert first_difference(have, want) == "weights.name: 'hed', wanted 'imagenet'"
    assert first_difference({"a": {}}, {"a": {"b": 1}}) == "a.b: missing, wanted 1"
    assert first_difference({"a": {"b": 1}}, {"a": {}}) == "a.b: 1, not wanted"
    assert first_difference({"a": 1}, {"a": {"b": 1}}) == "a: 1, wanted {'b': 1}"


def test_equal_fingerprints_have_no_difference():
    assert first_difference(realistic(), turned(realistic())) is None
    assert first_difference({"layers": ("a", "b")}, {"layers": ["a", "b"]}) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_equal_nothing_are_refused(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        key_of({"learning_rate": value})


def test_values_that_are_not_plain_are_refused():
    with pytest.raises(TypeError, match="not JSON serializable"):
        key_of({"layers": {"a", "b"}})
