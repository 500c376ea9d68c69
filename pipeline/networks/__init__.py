"""Keras networks built from the notation, initializers, fast copies."""
