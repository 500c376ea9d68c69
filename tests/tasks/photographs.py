"""Real photographs of many sizes and modes: pieces of scikit-learn's two sample images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images

CLASSES = {"temple": 0, "flower": 1}
MODES = {".jpg": "RGB", ".png": "RGBA", ".webp": "RGB", ".bmp": "L", ".gif": "P", ".jpeg": "CMYK"}


def write_photographs(root: Path, each: int = 30) -> Path:
    """Write `each` pieces of both photographs, 120 to 400 pixels wide, in every mode and format in turn."""
    generator = np.random.default_rng(0)
    for name, number in CLASSES.items():
        photograph = Image.fromarray(load_sample_images().images[number])
        (root / name).mkdir(parents=True, exist_ok=True)
        for piece in range(each):
            width, height = (int(side) for side in generator.integers((120, 120), (401, 300)))
            left = int(generator.integers(0, photograph.width - width + 1))
            top = int(generator.integers(0, photograph.height - height + 1))
            picture = photograph.crop((left, top, left + width, top + height))
            suffix, mode = list(MODES.items())[piece % len(MODES)]
            picture = ImageOps.mirror(picture) if piece % 2 else picture
            picture.convert(mode).save(root / name / f"{piece:03d}{suffix}")
    return root
