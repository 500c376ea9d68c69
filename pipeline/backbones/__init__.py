"""Pretrained convolutional backbones and where their weights come from."""
