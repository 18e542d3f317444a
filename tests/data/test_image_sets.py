"""Files of many images become a PNG file each; damaged ones are named, and nothing is unpickled."""

import gzip
import pickle
import struct

import numpy as np
import pytest

from seqgen.data.image_sets import build_digits, build_sets, read_cifar, read_idx
from seqgen.errors import UserError
from seqgen.tokenizers.pixels import PixelTokenizer


def idx(images):
    return struct.pack(">4I", 0x803, *images.shape) + images.tobytes()


def batch(planes, more=b""):
    """Planes as Python 2 pickled a batch; `more` is a further value."""
    n, content = len(planes), planes.tobytes()
    return b"".join(
        [
            b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x05batchq\x03U\x06labelsq\x04]q\x05(",
            b"K\x06" * n,
            b"eU\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\n",
            b"q\x08K\x00\x85U\x01b\x87Rq\t(K\x01",
            b"K" + bytes([n]) + b"M\x00\x0c\x86cnumpy\ndtype\nq\nU\x02u1K\x00K\x01\x87Rq\x0b",
            b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89",
            b"T" + struct.pack("<I", len(content)) + content + b"tb",
            b"U\x09filenamesq\x0c" + (more or b"]q\x0d") + b"u.",
        ]
    )


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(256, size=(4, 3, 5), dtype=np.uint8)


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_are_read(tmp_path, images, packed):
    path = tmp_path / ("a.gz" if packed else "a")
    path.write_bytes(gzip.compress(idx(images)) if packed else idx(images))
    assert np.array_equal(read_idx(path)[..., 0], images)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: x[:10], "no whole header"),
        (lambda x: x[:-1], "should have 60 values and has 59"),
        (lambda x: x + b"0", "and has more"),
        (lambda x: b"1234" + x[4:], "no file of images in the format IDX"),
        (lambda x: x[:4] + b"\xff" * 12, "it is damaged"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path, images, change, reason):
    path = tmp_path / "a-ubyte"
    path.write_bytes(change(idx(images)))
    with pytest.raises(UserError, match=reason) as error:
        read_idx(path)
    assert str(path) in str(error.value)
    packed = tmp_path / "a.gz"
    packed.write_bytes(gzip.compress(idx(images))[:-9])
    with pytest.raises(UserError, match="cannot be read"):
        read_idx(packed)


def test_pickled_batches_are_taken_apart(tmp_path):
    planes = np.random.default_rng(0).integers(256, size=(3, 3072), dtype=np.uint8)
    path = tmp_path / "data_batch_1"
    path.write_bytes(batch(planes))
    assert np.array_equal(pickle.loads(path.read_bytes(), encoding="latin-1")["data"], planes)
    found = read_cifar(path)
    assert found.shape == (3, 32, 32, 3)
    assert np.array_equal(found.transpose(0, 3, 1, 2).reshape(3, -1), planes)
    binary = tmp_path / "data_batch_1.bin"
    binary.write_bytes(np.insert(planes, 0, 7, axis=1).tobytes())
    assert np.array_equal(read_cifar(binary), found)


class Harmful:
    def __reduce__(self):
        return print, ("carried out",)


def test_nothing_in_a_batch_is_carried_out(tmp_path, capsys):
    path = tmp_path / "data_batch_1"
    planes = np.random.default_rng(0).integers(256, size=(1, 3072), dtype=np.uint8)
    harmful = pickle.dumps(Harmful(), protocol=2)[2:-1]  # without PROTO and STOP
    for content in (batch(planes, harmful), batch(planes)[:-200], batch(planes[:0]), b""):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"{path} is no batch of CIFAR-10"):
            read_cifar(path)
    assert "carried out" not in capsys.readouterr().out


def test_sets_keep_their_split(tmp_path):
    for name, n in (("train", 6), ("test", 2)):
        (tmp_path / name).write_bytes(
            idx(np.random.default_rng(0).integers(256, size=(n, 2, 2), dtype=np.uint8))
        )
    files = {split: [tmp_path / split] for split in ("train", "test")}
    folder = build_sets(files, tmp_path / "cache" / "mnist", read_idx, n_validation=2)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    assert [name.split("/")[0] for name in names] == ["test"] * 2 + ["train"] * 4 + [
        "validation"
    ] * 2
    train = read_idx(tmp_path / "train")
    first = PixelTokenizer.preview(folder / "validation" / "00000.png")
    assert np.array_equal(first[..., :1], train[4])
    assert build_sets(files, tmp_path / "cache" / "mnist", read_idx, n_validation=2) == folder


def test_digits_have_the_levels_that_they_are_published_with(tmp_path):
    datasets = pytest.importorskip("sklearn.datasets", reason="the extra `images`")
    folder = build_digits(tmp_path / "digits")
    digits = datasets.load_digits().images
    for number in (0, 1796):
        shown = PixelTokenizer.preview(folder / f"{number:05d}.png")[..., 0]
        assert np.array_equal((shown * 16.0 / 255).round(), digits[number])
    assert len(list(folder.glob("*.png"))) == len(digits)
