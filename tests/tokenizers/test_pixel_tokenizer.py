"""Images are read into levels and written back to the bit; others are refused in a sentence."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.errors import FileRejected
from seqgen.tokenizers import build_tokenizer, modality
from seqgen.tokenizers.pixels import PixelTokenizer, png


def tokenizer(*, size=(5, 3), channels=1, levels=256, **limits):
    config = TokenizerConfig(
        type="pixels", image_size=list(size), image_channels=channels, image_levels=levels
    )
    return build_tokenizer(config, LimitsConfig(**limits))


def saved(path, pixels):
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path)
    return path


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_images_are_read_and_written_to_the_bit(tmp_path, channels, levels):
    rng = np.random.default_rng(0)
    exact = tokenizer(channels=channels, levels=levels)
    ids = rng.integers(levels, size=(15 * channels, 1))
    exact.decode(ids, tmp_path / "a.png")
    assert np.array_equal(exact.encode(tmp_path / "a.png"), ids)
    written = (tmp_path / "a.png").read_bytes()
    exact.decode(exact.encode(tmp_path / "a.png"), tmp_path / "b.png")
    assert (tmp_path / "b.png").read_bytes() == written


def test_every_scale_of_levels_has_an_inverse():
    from seqgen.tokenizers.pixels import _level, _shown

    for n in range(2, 257):
        levels = np.arange(n)
        assert np.array_equal(_level(_shown(levels, n), n), levels)
        assert _shown(levels, n)[[0, -1]].tolist() == [0, 255]


def test_tokens_go_by_rows_then_columns_then_channels(tmp_path):
    pixels = np.arange(45, dtype=np.uint8).reshape(3, 5, 3)
    path = saved(tmp_path / "a.png", pixels)
    assert tokenizer(channels=3).encode(path)[:, 0].tolist() == list(range(45))
    assert tokenizer(channels=3).vocabulary.axes == (3, 5, 3)
    assert tokenizer().vocabulary.axes == (3, 5)


def test_size_colour_and_levels_are_those_of_most_files(tmp_path):
    grey = [0, 15, 30, 255]  # levels 0, 1, 2 and 17 of 18
    paths = [
        saved(tmp_path / "a.png", np.resize(grey, (3, 5))),
        saved(tmp_path / "b.png", np.resize(grey, (3, 5, 1)).repeat(3, 2)),  # grey, saved as RGB
        saved(tmp_path / "c.png", np.full((9, 9), 77)),
    ]
    surveys = [PixelTokenizer.survey(path, limits=LimitsConfig()) for path in paths]
    config, why = modality("pixels").choose(TokenizerConfig(type="pixels"), surveys)
    assert (config.image_size, config.image_channels, config.image_levels) == ([5, 3], 1, 18)
    assert why["image_size"] == "2 of 3 files are of this size"
    assert not PixelTokenizer.is_open(config)


def bomb():
    """A PNG file that says it has a gigapixel."""
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    whole = struct.pack(">I", len(header)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + whole + png(np.zeros((3, 5, 1), np.uint8))[33:]


def as_png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


GOOD = png(np.arange(15, dtype=np.uint8).reshape(3, 5, 1))
BAD = {
    "no image": (b"hello", "is no PNG, JPEG, BMP, PPM or WEBP file"),
    "cut": (GOOD[:-25], "damaged"),
    "huge": (bomb(), r"it has 40000 x 40000 pixels, more than limits\.max_pixels|it is damaged"),
    "other size": (
        png(np.zeros((4, 5, 1), np.uint8)),
        "it has 5 x 4 pixels, and images here have 5 x 3",
    ),
    "colour": (
        png(np.eye(5, dtype=np.uint8)[:3, :, None] * np.uint8([1, 2, 3])),
        "convert it to grey",
    ),
    "transparent": (as_png(np.zeros((3, 5, 2), np.uint8)), "without transparency"),
    "16 bits": (as_png(np.zeros((3, 5), np.uint16)), "its mode is I;16"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_read_is_refused_with_the_file_named(tmp_path, case):
    content, reason = BAD[case]
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(FileRejected, match=reason) as refused:
        tokenizer().encode(path)
    assert refused.value.name == str(path)


def test_an_unfinished_image_is_not_written(tmp_path):
    with pytest.raises(FileRejected, match="14 of the 15 values"):
        tokenizer().decode(np.zeros((14, 1), int), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_shades_that_tokens_lack_are_named(tmp_path):
    path = saved(tmp_path / "a.png", np.arange(15).reshape(3, 5))
    assert tokenizer().describe(path) == ("5 x 3 pixels", [])
    assert tokenizer(levels=17).describe(path)[1] == ["shades between 17 levels"]


def test_only_levels_are_drawn():
    vocabulary = tokenizer(levels=4).vocabulary
    for before in (vocabulary.bos_id, 0, 3):
        mask = vocabulary.allowed(np.array([[before]]), has_unit=np.array([True]))
        assert mask[0].tolist() == [True] * 4 + [False] * 3
