"""The training loop and its parts: examples, optimizers, augmentation, weight averages, checkpoints."""
