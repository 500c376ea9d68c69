"""Fingerprints: any change of any field changes the key, the order of keys does not."""

from __future__ import annotations

import copy

from hypothesis import given
from hypothesis import strategies as st

from pipeline.storage.fingerprint import canonical, differences, key_of

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)  # fmt: skip
NAMES = st.text("abcdefgh_", min_size=1, max_size=5)
TREES = st.dictionaries(
    NAMES,
    st.recursive(
        LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)
    ),
    min_size=1,
    max_size=5,
)


def paths(tree, path=()):
    """Yield the path of every leaf."""
    branches = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    is_leaf = True
    for name, value in branches:
        is_leaf = False
        yield from paths(value, (*path, name))
    if is_leaf and path:
        yield path


def reordered(tree):
    """Return the same tree with the keys of its dictionaries in reverse order."""
    if isinstance(tree, dict):
        return {name: reordered(tree[name]) for name in reversed(list(tree))}
    return [reordered(value) for value in tree] if isinstance(tree, list) else tree


@given(TREES)
def test_the_order_of_keys_does_not_matter(tree):
    assert key_of(reordered(tree)) == key_of(tree)
    assert differences(reordered(tree), tree) == []


@given(TREES, LEAVES, st.data())
def test_a_change_of_any_leaf_changes_the_key_and_is_named(tree, value, data):
    path = data.draw(st.sampled_from(sorted(paths(tree), key=repr)))
    changed = copy.deepcopy(tree)
    container = changed
    for name in path[:-1]:
        container = container[name]
    before, container[path[-1]] = container[path[-1]], value
    if canonical(before) == canonical(value):
        assert key_of(changed) == key_of(tree)
        return
    assert key_of(changed) != key_of(tree)
    assert all(str(path[0]) in message for message in differences(changed, tree))


@given(TREES, NAMES)
def test_an_additional_field_changes_the_key(tree, name):
    extended = {**tree, f"{name}_new": 1}
    assert key_of(extended) != key_of(tree)
    assert differences(extended, tree) == [f"{name}_new: 1, expected nothing"]
