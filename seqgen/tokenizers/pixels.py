"""Images of one size: a token for each channel of each pixel, row by row.

Colour is red, green and blue in a row, as three tokens: so each is drawn given the ones before it,
with nothing between them but the model (as in Katharopoulos et al. 2020, section 4.2.2). As fields
of one token they would share one hidden value.

Legend: T positions, H rows, W columns, C channels.
"""

import io
import struct
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from zlib import error as ZlibError

import numpy as np
from PIL import Image, UnidentifiedImageError

from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.errors import FileRejected
from seqgen.midi import ANY_SIZE
from seqgen.tokenizers.base import Tokenizer, read_bytes
from seqgen.vocabulary import Field, Grammar, Vocabulary

FORMATS = ("PNG", "JPEG", "BMP", "PPM", "WEBP")  # that are read
GREY, COLOUR = ("1", "L"), ("RGB",)  # Pillow's modes
SIZE, CHANNELS, LEVELS = (28, 28), 1, 256  # where neither the user nor a corpus says otherwise
SHOWN = LimitsConfig(max_file_bytes=ANY_SIZE.max_file_bytes, max_pixels=50_000_000)
# What Pillow raises for damaged files.
DAMAGED = (
    *(OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, OverflowError),
    *(MemoryError, struct.error, ZlibError, Image.DecompressionBombError),
)


@dataclass
class ImageSurvey:
    """What files of one size hold.

    Attributes:
        n_files: how many there are.
        n_colour: how many of them have colours.
        values: which occur.
    """

    n_files: int = 0
    n_colour: int = 0
    values: set[int] = field(default_factory=set)


Surveys = dict[tuple[int, int], ImageSurvey]  # by columns and rows


class PixelTokenizer(Tokenizer):
    """One token per channel of a pixel, F = 1: its level of brightness."""

    types = ("pixels",)
    kind = "images"
    unit = "dimension"
    suffix = ".png"
    suffixes = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm", ".webp"})
    n_shown = 16

    def __init__(self, config: TokenizerConfig, limits: LimitsConfig):
        self.width, self.height = config.image_size or SIZE
        self.n_channels = config.image_channels or CHANNELS
        self.n_levels = config.image_levels or LEVELS
        settings = {
            "image_size": [self.width, self.height],
            "image_channels": self.n_channels,
            "image_levels": self.n_levels,
        }
        super().__init__(config.model_copy(update=settings), limits)
        n = self.n_levels
        self.vocabulary = Vocabulary(
            (Field("level", n + 3),),
            bos_id=n + 1,
            eos_id=n + 2,
            pad_id=n,
            grammar=_only_levels(n),
            axes=(self.height, self.width) + (self.n_channels,) * (self.n_channels > 1),
        )

    @classmethod
    def is_open(cls, config: TokenizerConfig) -> bool:
        """Whether size, channels or levels are left open."""
        return None in (config.image_size, config.image_channels, config.image_levels)

    @classmethod
    def survey(cls, path: Path, *, limits: LimitsConfig) -> Surveys:
        """Return size, colours and values of one file."""
        pixels = _read(path, limits)
        h, w, c = pixels.shape
        return {(w, h): ImageSurvey(1, int(c > 1), set(np.unique(pixels).tolist()))}

    @classmethod
    def add_surveys(cls, surveys: Iterable[Surveys]) -> Surveys:
        """Return the surveys of all files of each size."""
        total: Surveys = {}
        for by_size in surveys:
            for size, one in by_size.items():
                found = total.setdefault(size, ImageSurvey())
                found.n_files += one.n_files
                found.n_colour += one.n_colour
                found.values |= one.values
        return total

    @classmethod
    def choose(
        cls, config: TokenizerConfig, surveys: Iterable[Surveys]
    ) -> tuple[TokenizerConfig, dict[str, str]]:
        """Choose the most frequent size, colour if any file has it, and levels for all values."""
        by_size = cls.add_surveys(surveys)
        if not by_size:
            return config, {}
        size = max(by_size, key=lambda size: by_size[size].n_files)
        width, height = config.image_size or size
        alike = by_size.get((width, height), ImageSurvey())
        values = np.array(sorted(alike.values), dtype=int)
        levels = next(
            n for n in range(2, LEVELS + 1) if (_shown(_level(values, n), n) == values).all()
        )
        n, n_files = by_size[size].n_files, sum(one.n_files for one in by_size.values())
        found = {
            "image_size": (
                list(size),
                f"{n} of {n_files} files are of this size",
            ),
            "image_channels": (3 if alike.n_colour else 1, f"{alike.n_colour} files have colours"),
            "image_levels": (levels, f"{len(values)} different values occur, all on this scale"),
        }
        chosen = {key: one for key, one in found.items() if getattr(config, key) is None}
        settings = {key: value for key, (value, _) in chosen.items()}
        return config.model_copy(update=settings), {key: why for key, (_, why) in chosen.items()}

    def encode(self, path: Path) -> np.ndarray:
        """Read an image file into ids [H W C, 1]."""
        return _level(self._pixels(path), self.n_levels).reshape(-1, 1)

    def content(self, ids: np.ndarray) -> bytes:
        """Return ids [T, 1] as a PNG file; values beyond those of one image are left out."""
        levels, n = self.plain(ids)[:, 0], self.height * self.width * self.n_channels
        if len(levels) < n:
            reason = f"it has {len(levels)} of the {n} values of an image"
            raise FileRejected("unfinished", "the image", reason)
        pixels = _shown(levels[:n], self.n_levels).astype(np.uint8)
        return png(pixels.reshape(self.height, self.width, self.n_channels))

    @classmethod
    def preview(cls, path: Path) -> np.ndarray:
        """Read a picture [H, W, 3]."""
        pixels = _read(path, SHOWN)
        return np.broadcast_to(pixels, (*pixels.shape[:2], 3)).copy()

    def describe(self, path: Path, *, until: float = 0.0) -> tuple[str, list[str]]:
        """Name the size of an image; levels between those of the tokens are left out."""
        pixels = self._pixels(path)
        is_exact = (_shown(_level(pixels, self.n_levels), self.n_levels) == pixels).all()
        left_out = [] if is_exact else [f"shades between {self.n_levels} levels"]
        return self.measure(path)[1], left_out

    def measure(self, path: Path) -> tuple[dict[str, float], str]:
        """Count dimensions: the channels of all pixels."""
        n = self._pixels(path).size
        return {"dimensions": n}, f"{self.width} x {self.height} pixels"

    def _pixels(self, path: Path) -> np.ndarray:
        """Read an image of this size and mode [H, W, C]; FileRejected for others."""
        pixels = _read(path, self._limits)
        if pixels.shape[:2] != (self.height, self.width):
            h, w, _ = pixels.shape
            reason = (
                f"it has {w} x {h} pixels, and images here have {self.width} x {self.height}: "
                f"scale or crop it to that"
            )
            raise FileRejected("unsupported", str(path), reason)
        if pixels.shape[2] > self.n_channels:
            reason = "it has colours, and images here are grey: convert it to grey"
            raise FileRejected("unsupported", str(path), reason)
        return np.broadcast_to(pixels, (self.height, self.width, self.n_channels))


def png(pixels: np.ndarray) -> bytes:
    """Return bytes [H, W, 1] of grey, or [H, W, 3] of red, green and blue, as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return file.getvalue()


def _read(path: Path, limits: LimitsConfig) -> np.ndarray:
    """Read a file [H, W, C]: bytes, with C = 1 where no pixel has a colour, else 3."""
    content = read_bytes(path, limits)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a size that is refused below, and of odd metadata
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            _check(image, path, limits)
            pixels = np.asarray(image.convert("L" if image.mode in GREY else "RGB"))
    except FileRejected:
        raise
    except UnidentifiedImageError:
        reason = f"it is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file"
        raise FileRejected("unreadable", str(path), reason) from None
    except DAMAGED as error:
        raise FileRejected("unreadable", str(path), f"it is damaged ({error})") from None
    if pixels.ndim == 2:
        return pixels[..., None]
    is_grey = (pixels == pixels[..., :1]).all()
    return pixels[..., :1] if is_grey else pixels


def _check(image: Image.Image, path: Path, limits: LimitsConfig) -> None:
    """Refuse an image by its header, before its pixels are read."""
    w, h = image.size
    reason = None
    if w * h > limits.max_pixels:
        reason = f"it has {w} x {h} pixels, more than {limits.named('max_pixels')}"
        raise FileRejected("over-limit", str(path), reason)
    if (n_frames := getattr(image, "n_frames", 1)) > 1:
        reason = f"it has {n_frames} frames: save one of them"
    elif image.has_transparency_data:
        reason = "it has transparent pixels: save it without transparency"
    elif image.mode not in (*GREY, *COLOUR, "P"):
        reason = f"its mode is {image.mode}: save it as grey or RGB, with 8 bits for each channel"
    if reason is not None:
        raise FileRejected("unsupported", str(path), reason)


def _level(values: np.ndarray, n: int) -> np.ndarray:
    """Turn bytes into the nearest of n levels."""
    return (values.astype(np.int64) * (n - 1) + 127) // 255


def _shown(levels: np.ndarray, n: int) -> np.ndarray:
    """Turn levels of n into bytes, which `_level` turns back into the same levels."""
    return (levels * 255 + (n - 1) // 2) // (n - 1)


def _only_levels(n: int) -> Grammar:
    """Only levels are drawn: an image ends when it is whole."""
    groups = (*(0,) * n, 1, 2, 3)  # levels, and PAD, BOS and EOS by themselves
    return Grammar(
        first=groups,
        last=groups,
        follows=tuple((before in (0, 2), False, False, False) for before in range(4)),
        units=(*(True,) * n, False, False, False),
    )
