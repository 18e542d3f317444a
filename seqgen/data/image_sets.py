"""Published collections of images, many in one file, written as a PNG file each.

Legend: N images, H rows, W columns, C channels.
"""

import gzip
import math
import pickletools
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from seqgen.data.splits import TEST, TRAIN, VALIDATION, content_hash
from seqgen.errors import UserError
from seqgen.files import atomic_folder, locked
from seqgen.tokenizers.pixels import png

MAX_BYTES = 1_000_000_000  # of one file, uncompressed
IDX_IMAGES = 0x00000803  # bytes in three dimensions
CIFAR_SHAPE = (3, 32, 32)  # the planes of red, green and blue
DIGIT_LEVELS = 17  # of scikit-learn's digits: 0 to 16
# What a published batch is made of: a dictionary of strings, lists of numbers and one array. Its
# opcodes are read one by one and never carried out; others, such as those of objects, are refused.
PICKLE = frozenset(
    (
        *("PROTO", "MARK", "STOP", "EMPTY_DICT", "EMPTY_LIST", "SETITEM", "SETITEMS", "APPEND"),
        *("APPENDS", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "BINPUT", "LONG_BINPUT", "BINGET"),
        *("LONG_BINGET", "BININT", "BININT1", "BININT2", "BINSTRING", "SHORT_BINSTRING", "NONE"),
        *("NEWFALSE", "GLOBAL", "REDUCE", "BUILD"),
    )
)
ARRAY = ("numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype")
Progress = Callable[[int, int], None]


def build_digits(cache: Path, *, progress: Progress | None = None) -> Path:
    """Write the 1,797 digits that come with scikit-learn, unless that was done before.

    They have 8 x 8 pixels, and their levels 0 to 16 are evenly spaced greys from black to white.
    Returns the folder.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise UserError(
            "the digits come with scikit-learn, which is missing: pip install 'seqgen[images]'"
        ) from None
    levels = load_digits().images.astype(np.int64)  # [N, H, W]
    n = DIGIT_LEVELS - 1
    images = ((levels * 255 + n // 2) // n).astype(np.uint8)[..., None]
    return _written({"": images}, cache, images.tobytes(), progress)


def build_sets(
    files: Mapping[str, Sequence[Path]],
    cache: Path,
    read: Callable[[Path], np.ndarray],
    *,
    n_validation: int,
    progress: Progress | None = None,
) -> Path:
    """Write the images of published files, unless that was done before.

    Args:
        files: of the splits `train` and `test`.
        cache: beside the folder that is written.
        read: returns the images of a file [N, H, W, C].
        n_validation: how many of the last training images are held out.
        progress: told how many images of how many are written.

    Returns:
        A folder with one folder for each split.

    Raises:
        UserError: a file is damaged or holds something else; it names the file.
    """
    images = {split: np.concatenate([read(file) for file in of]) for split, of in files.items()}
    train = images[TRAIN]
    if len(train) <= n_validation:
        raise UserError(
            f"{files[TRAIN][0]} has {len(train)} images, and {n_validation} are to be held out"
        )
    splits = {
        TRAIN: train[: len(train) - n_validation],
        VALIDATION: train[len(train) - n_validation :],
        TEST: images[TEST],
    }
    read_from = [file for of_split in files.values() for file in of_split]
    content = "".join(content_hash(file.read_bytes()) for file in read_from)
    return _written(splits, cache, content.encode(), progress)


def read_idx(path: Path) -> np.ndarray:
    """Read images of a file in the format IDX, also with gzip [N, H, W, 1]."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(16)
            if len(header) < 16:
                raise UserError(f"{path} is damaged: it has no whole header; download it again")
            magic, n, h, w = struct.unpack(">4I", header)
            if magic != IDX_IMAGES:
                raise UserError(
                    f"{path} is no file of images in the format IDX: it begins with {magic:#010x} "
                    f"and not {IDX_IMAGES:#010x}"
                )
            size = n * h * w
            if size > MAX_BYTES or not size:
                raise UserError(f"{path} should hold {n} images of {w} x {h}: it is damaged")
            content = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}): download it again") from None
    if len(content) != size:
        held = "more" if len(content) > size else f"{len(content):,}"
        raise UserError(f"{path} should have {size:,} values and has {held}: download it again")
    return np.frombuffer(content, dtype=np.uint8).reshape(n, h, w, 1)


def read_cifar(path: Path) -> np.ndarray:
    """Read images of a CIFAR-10 batch, of the binary version or the pickled one [N, 32, 32, 3].

    A pickled batch is taken apart by its opcodes, and nothing in it is carried out.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    size = math.prod(CIFAR_SHAPE)
    if path.suffix == ".bin":
        if not content or len(content) % (size + 1):
            raise UserError(f"{path} is no whole number of images: download it again")
        planes = np.frombuffer(content, dtype=np.uint8).reshape(-1, size + 1)[:, 1:]
    else:
        planes = np.frombuffer(_array_of(content, path), dtype=np.uint8)
        if not len(planes) or len(planes) % size:
            raise UserError(f"{path} is no whole number of images: download it again")
    return planes.reshape(-1, *CIFAR_SHAPE).transpose(0, 2, 3, 1)


def find(folder: Path, names: Sequence[str], endings: Sequence[str], *, way_out: str) -> list[Path]:
    """Return for each name the file with one of the endings; UserError where there is none."""
    found = []
    for name in names:
        paths = [folder / f"{name}{ending}" for ending in endings]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            raise UserError(f"{paths[0]} is not here: {way_out}")
        found.append(path)
    return found


def _array_of(content: bytes, path: Path) -> bytes:
    """Return the bytes of the one array in a pickled dictionary, under the key "data"."""
    arrays, names = [], set()
    try:
        for opcode, argument, _ in pickletools.genops(content):
            is_global = opcode.name == "GLOBAL"
            if opcode.name not in PICKLE or (is_global and argument not in ARRAY):
                raise ValueError(f"it has {opcode.name} {argument if is_global else ''}".strip())
            if isinstance(argument, str) and len(argument) >= math.prod(CIFAR_SHAPE):
                arrays.append(argument.encode("latin-1"))  # as which genops reads strings of bytes
            elif isinstance(argument, str):
                names.add(argument)
    except ValueError as error:
        raise UserError(
            f"{path} is no batch of CIFAR-10, or a damaged one ({str(error)[:100]}): download it "
            f"again"
        ) from None
    if len(arrays) != 1 or not {"data", "u1", *ARRAY} <= names:
        raise UserError(f"{path} is no batch of CIFAR-10: it has no array of bytes as its data")
    return arrays[0]


def _written(
    splits: Mapping[str, np.ndarray], cache: Path, content: bytes, progress: Progress | None
) -> Path:
    """Write images [N, H, W, C] into a folder for each split; it is named after the content."""
    folder = cache.with_name(f"{cache.name}-{content_hash(content)[:8]}")
    total, done = sum(map(len, splits.values())), 0
    with locked(folder.with_name(f".{folder.name}.lock"), if_held=lambda holder: None):
        if folder.is_dir():
            return folder
        with atomic_folder(folder) as temporary:
            for split, number, image in _numbered(splits):
                (temporary / split).mkdir(exist_ok=True)
                (temporary / split / f"{number:05d}.png").write_bytes(png(image))
                done += 1
                if progress:
                    progress(done, total)
    return folder


def _numbered(splits: Mapping[str, np.ndarray]) -> Iterator[tuple[str, int, np.ndarray]]:
    for split, images in splits.items():
        for number, image in enumerate(images):
            yield split, number, np.ascontiguousarray(image)
