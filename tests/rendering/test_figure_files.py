"""A figure is the same bytes each time, stands alone, and is saved as its name says."""

import re
from xml.etree import ElementTree

import pytest
from matplotlib.image import imread

from seqgen.errors import UserError
from seqgen.rendering.curves import Curve, draw_loss_curves
from seqgen.rendering.figures import save_figure, svg_text
from seqgen.rendering.theme import DARK, LIGHT


def figure(theme=LIGHT, **options):
    return draw_loss_curves(
        [Curve("training", range(50), [3 - i / 50 for i in range(50)], "training")],
        references={"5-gram": 2.5},
        theme=theme,
        **options,
    )


def test_the_same_figure_is_the_same_text_also_when_drawn_twice():
    one = figure()
    assert svg_text(one) == svg_text(one) == svg_text(figure())


def test_text_for_a_page_refers_to_nothing_outside_itself():
    text = svg_text(figure())
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg")
    addresses = set(re.findall(r'https?://[^"\s]+', text))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names
    names = set(re.findall(r'\bid="([^"]+)"', text))
    used = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
    assert used
    assert used <= names
    assert not re.search(r'href="(?!#)', text)
    assert "<text" not in text  # letters are outlines


def test_figures_of_one_page_share_no_names():
    texts = [svg_text(figure()), svg_text(figure(DARK)), svg_text(figure(title="another"))]
    names = [set(re.findall(r'\bid="([^"]+)"', text)) for text in texts]
    assert not names[0] & names[1]
    assert not names[0] & names[2]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_files_have_the_background_of_their_theme(tmp_path, theme):
    save_figure(figure(theme), tmp_path / "x.png")
    save_figure(figure(theme), tmp_path / "x.svg")
    corner = imread(tmp_path / "x.png")[0, 0, :3]
    expected = [int(theme.background[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    assert corner == pytest.approx(expected, abs=0.01)
    assert theme.background.lower() in (tmp_path / "x.svg").read_text()


def test_names_that_the_font_lacks_are_drawn_without_a_warning():
    curve = Curve("夜曲", [1, 2], [2, 1])
    one = draw_loss_curves([curve], references={"夜曲": 1.5}, title="夜曲 \udcff")
    assert svg_text(one)


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"should end in \.png or \.svg"):
        save_figure(figure(), tmp_path / "x.pdf")
    assert not list(tmp_path.iterdir())


def _luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_text_is_readable_on_its_background(theme):
    """The contrast ratio of WCAG 2: 4.5 for text; 2 for notes, which are large."""
    background = _luminance(theme.background)

    def contrast(color):
        pair = sorted((_luminance(color), background))
        return (pair[1] + 0.05) / (pair[0] + 0.05)

    assert min(contrast(theme.text), contrast(theme.muted)) >= 4.5
    assert min(map(contrast, (*theme.tracks, theme.generated, theme.softmax, theme.data))) >= 2
