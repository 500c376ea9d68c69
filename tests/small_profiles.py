"""Color profiles (ICC) whose effect on a picture is known."""

from __future__ import annotations

import struct

from PIL import ImageCms

D50 = struct.pack(">III", 0xF6D6, 0x10000, 0xD32D)  # XYZ of the profile connection space's white
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
# The primaries of sRGB in another order: (r, g, b) is the color that is (g, r, b) in sRGB.
SWAPPED = SRGB.replace(b"rXYZ", b"----").replace(b"gXYZ", b"rXYZ").replace(b"----", b"gXYZ")


def _profile(kind: bytes, space: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {**tags, b"wtpt": b"XYZ \0\0\0\0" + D50}
    table, data = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    header = b"lcms\x02\x40\0\0" + kind + space + pcs + bytes(12) + b"acsp" + bytes(28) + D50
    return struct.pack(">I", 128 + len(table) + len(data)) + header.ljust(124, b"\0") + table + data


# Gray values that are proportional to light.
LINEAR_GRAY = _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": b"curv\0\0\0\0" + struct.pack(">IHH", 1, 256, 0)})
# A printer without ink: every CMYK value is white (L* = 100, a* = b* = 0).
NO_INK = _profile(
    b"prtr",
    b"CMYK",
    b"Lab ",
    {
        b"A2B0": b"mft1\0\0\0\0\x04\x03\x02\0"
        + struct.pack(">9I", *(0x10000 * (number % 4 == 0) for number in range(9)))
        + bytes(range(256)) * 4
        + b"\xff\x80\x80" * 16
        + bytes(range(256)) * 3
    },
)
