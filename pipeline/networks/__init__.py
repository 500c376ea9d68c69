"""The block notation and the Keras networks that it builds."""
