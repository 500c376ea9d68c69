"""CIFAR-10 and CIFAR-100, Python versions: the table of their archives.

The data is identified by the digest of each member, not of the archive: a repacked archive is accepted, an
altered byte is not.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """One file of an archive: its name in the folder, its size in bytes, its digest, its number of images."""

    name: str
    bytes: int
    digest: str
    images: int = 10_000


@dataclass(frozen=True)
class Archive:
    """The archive of a data set; its members are the training images, the test images and the class names."""

    title: str
    file: str
    folder: str  # in the archive
    members: tuple[Member, ...]
    algorithm: str = "sha256"  # of the digests
    labels: bytes = b"labels"  # key of the labels in a member with images
    class_names: bytes = b"label_names"  # key of the names in the last member
    classes: int = 10


# Computed from files whose md5 sums match those in torchvision's datasets/cifar.py.
CIFAR10_MEMBERS = (
    Member("data_batch_1", 31_035_704, "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd"),
    Member("data_batch_2", 31_035_320, "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8"),
    Member("data_batch_3", 31_035_999, "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9"),
    Member("data_batch_4", 31_035_696, "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b"),
    Member("data_batch_5", 31_035_623, "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154"),
    Member("test_batch", 31_035_526, "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831"),
    Member("batches.meta", 158, "f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb", 0),
)
# The md5 sums in torchvision's datasets/cifar.py. Sizes are from git-annex keys with the same sums, in
# github.com/datasets-mila/datasets--cifar100; that of meta follows from its 120 names.
CIFAR100_MEMBERS = (
    Member("train", 155_249_918, "16019d7e3df5f24257cddd939b257f8d", 50_000),
    Member("test", 31_049_707, "f0ef6b0ae62326f3e7ffdfab6717acfc"),
    Member("meta", 1_473, "7973b15100ade9c7d40fb424638fde48", 0),
)

ARCHIVES = {
    "cifar10": Archive("CIFAR-10", "cifar-10-python.tar.gz", "cifar-10-batches-py", CIFAR10_MEMBERS),
    "cifar100": Archive(
        title="CIFAR-100",
        file="cifar-100-python.tar.gz",
        folder="cifar-100-python",
        members=CIFAR100_MEMBERS,
        algorithm="md5",
        labels=b"fine_labels",
        class_names=b"fine_label_names",
        classes=100,
    ),
}
