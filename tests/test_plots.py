"""Maps drawn over images, the book's style of figures, and a run drawn while it grows."""

import io
import re
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from PIL import Image
from train.tiny import SHORT, tiny_data, tiny_model

from vitlib.palette import BLUE, FAINT, NIGHT, ORANGE
from vitlib.plots import LivePlot, figure_svg, overlay, plot_heads, plot_maps, use_book_style
from vitlib.train import fit

GREY = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
MAPS = {"one": torch.rand(2, 4, 4), "two": torch.randn(2, 7, 5)}


def rgb(colour):
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255


def test_a_row_an_image_and_each_map_over_it():
    figure = plot_maps(GREY, MAPS, ["a", "b"])
    axes = np.array(figure.axes).reshape(2, 3)
    assert [ax.get_title() for ax in axes.flat] == ["a", "one", "two", "b", "", ""]
    for row in range(2):
        for ax in axes[row]:
            np.testing.assert_array_equal(ax.images[-1].get_array(), GREY[row, 0])
        assert [len(ax.images) for ax in axes[row]] == [1, 2, 2]
        low, high = MAPS["two"][row].min(), MAPS["two"][row].max()
        assert axes[row, 2].get_xlabel() == f"{low:.2g} to {high:.2g}"
    assert plt.get_fignums() == []


def test_a_dollar_in_a_name_is_no_formula():
    figure = plot_maps(GREY[:1], {r"for $\foo$": MAPS["one"][:1]}, [r"$\bar$ (51%)"])
    figure.savefig(io.BytesIO())  # a formula would be parsed here, and refused
    assert figure.axes[0].get_title() == r"$\bar$ (51%)"


def test_maps_alone_too():
    figure = plot_maps(GREY[:1], {"one": MAPS["one"][:1]}, alone=True, cmap="gray_r")
    picture, alone, over = figure.axes
    assert [len(ax.images) for ax in figure.axes] == [1, 1, 2]
    assert alone.images[0].get_array()[..., 3].max() == 1
    assert (alone.get_title(), over.get_title()) == ("one", "")
    assert picture.images[0].get_cmap().name == "gray_r"


def test_a_patch_is_coloured_where_it_lies_in_the_image():
    """In the pixels of the PNG: white image, one positive and one negative cell."""
    values = torch.zeros(1, 2, 3)
    values[0, 0, 2], values[0, 1, 0] = 2.0, -1.0
    figure = plot_maps(torch.ones(1, 3, 20, 30), {"map": values}, alone=True)
    figure.savefig(png := io.BytesIO(), dpi=100)
    pixels = np.asarray(Image.open(png).convert("RGB")) / 255
    for ax, strength in zip(figure.axes[1:], (1.0, 0.75), strict=True):
        box = ax.get_window_extent()
        for row in range(2):
            for column in range(3):
                x = box.x0 + (column + 0.5) / 3 * box.width
                y = len(pixels) - (box.y1 - (row + 0.5) / 2 * box.height)
                colour, share = {(0, 2): (ORANGE, 1.0), (1, 0): (BLUE, 0.5)}.get(
                    (row, column), (ORANGE, 0.0)
                )
                expected = 1 - strength * share * (1 - rgb(colour))
                np.testing.assert_allclose(pixels[int(y), int(x)], expected, atol=0.01)


def test_a_map_of_colours_is_laid_over_the_image_as_it_is():
    colours = torch.rand(1, 2, 3, 3)
    figure = plot_maps(torch.ones(1, 3, 20, 30), {"painted": colours}, alone=True)
    _, alone, over = figure.axes
    for ax, strength in ((alone, 1.0), (over, 0.75)):
        shown = ax.images[0].get_array()
        np.testing.assert_allclose(shown[..., :3], colours[0], atol=1e-6)
        assert (shown[..., 3] == strength).all()
    assert alone.get_xlabel() == ""


@pytest.mark.parametrize("heads", [1, 3, 6, 12, 16])
def test_each_heads_map_lies_over_a_pale_grey_copy_of_the_image(heads):
    image, maps = torch.rand(3, 20, 30), torch.rand(heads, 4, 6)
    figure = plot_heads(image, maps, "all of them", "cat $")
    shown = [ax for ax in figure.axes if ax.get_visible()]
    titles = [ax.get_title() for ax in shown]
    assert titles == ["cat $", *(f"head {number}" for number in range(heads))]
    assert figure.get_suptitle() == "all of them"
    np.testing.assert_allclose(shown[0].images[0].get_array(), image.permute(1, 2, 0))
    for ax, values in zip(shown[1:], maps, strict=True):
        below, above = (picture.get_array() for picture in ax.images)
        np.testing.assert_allclose(below, 0.6 + 0.4 * image.mean(dim=0), atol=1e-6)
        np.testing.assert_allclose(above[..., 3], 0.9 * values / values.max(), atol=1e-6)
        assert ax.get_xlabel() == f"{values.min():.2g} to {values.max():.2g}"
    hidden = len(figure.axes) - len(shown)
    assert hidden <= 3
    figure.savefig(io.BytesIO())
    with pytest.raises(ValueError, match="undo the normalisation"):
        plot_heads(image - 1, maps)


def test_a_map_of_zeros_is_transparent():
    figure = plot_maps(GREY[:1], {"none": torch.zeros(1, 2, 2)})
    assert figure.axes[1].images[0].get_array()[..., 3].max() == 0


def test_what_cannot_be_drawn_is_refused():
    nan = torch.full((2, 2, 2), torch.nan)
    for images, maps, titles, message in [
        (GREY * 3 - 1, MAPS, None, r"pixels in \[0, 1\], got -.* undo the normalisation"),
        (GREY.expand(2, 2, 28, 28), MAPS, None, "1 or 3 channels, got 2"),
        (GREY, MAPS, ["a"], "2 images, but 1 of titles"),
        (GREY, {"nan": nan}, None, "the map holds NaN or infinity"),
    ]:
        with pytest.raises(ValueError, match=message):
            plot_maps(images, maps, titles)
    with pytest.raises(ValueError, match="NaN or infinity"):
        overlay(None, nan[0] / 0, (4, 4))


@pytest.mark.usefixtures("unchecked")
def test_another_number_of_maps_is_refused():
    with pytest.raises(ValueError, match="2 images, but 3 of occlusion"):
        plot_maps(GREY, {"occlusion": torch.zeros(3, 4, 4)})


def test_maps_of_a_common_scale_are_as_strong_as_their_values():
    _, ax = plt.subplots()
    overlay(ax, torch.tensor([[1.0, -2.0]]), (4, 4), strength=0.8, most=4.0)
    overlay(ax, torch.tensor([[8.0]]), (4, 4), strength=0.8, most=4.0)
    small, large = (image.get_array()[..., 3] for image in ax.images)
    np.testing.assert_allclose(small, [[0.2, 0.4]])
    np.testing.assert_allclose(large, [[0.8]])
    plt.close("all")


@pytest.fixture
def book_style():
    with plt.rc_context():
        use_book_style()
        yield
    plt.close("all")


def test_a_figure_in_the_books_style_follows_the_page(book_style):
    """Every word, line and ground is one of the page's colours, and words are words."""

    def draw():
        figure, ax = plt.subplots()
        ax.plot([0, 1], [0, 1], label="a line")
        ax.set(title="title", xlabel="x", ylabel="y")
        ax.legend()
        return figure_svg(figure)

    root = ElementTree.fromstring(svg := draw())
    assert {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")} >= {
        "title", "x", "y", "a line", "0.0", "1.0",
    }  # fmt: skip
    colours = re.findall(r"(?:fill|stroke): ?([^;\"]+)", svg)
    unnamed = {c for c in colours if not c.startswith("var(--vitlib-")} - {"none"}
    assert not unnamed
    assert {f"var(--vitlib-{name}, " in svg for name in ("ink", "paper", "blue")} == {True}
    assert svg == draw(), "a notebook that is executed again would differ"


def test_the_books_figures_have_its_style_whatever_the_callers_is():
    """Also what matplotlib asks for late: a title's size, a grid's colour, the words of an SVG."""
    with plt.rc_context({"axes.titlesize": 30, "grid.color": "red", "svg.fonttype": "path"}):
        figure = fit(tiny_model(), tiny_data(), SHORT).plot()
        svg = figure_svg(figure)
    _, ax = figure.axes
    assert {line.get_color() for line in ax.get_xgridlines()} == {FAINT}
    assert ax.get_title(loc="right")
    assert ax._right_title.get_fontsize() == 10
    assert ">training loss</text>" in svg


def test_a_notebook_shows_its_figures_as_svg():
    cells = [
        "import matplotlib.pyplot as plt",
        "from vitlib.plots import use_book_style\nuse_book_style()",
        "fig, ax = plt.subplots()\nplt.show()",
        "ax.figure",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    NotebookClient(notebook, kernel_name="python3").execute()
    for cell in notebook.cells[2:]:
        (output,) = cell.outputs
        assert output.data["image/svg+xml"].startswith("<svg")
        assert "var(--vitlib-ink, " in output.data["image/svg+xml"]


def test_the_books_type_is_legible_on_a_phone(book_style):
    """358 of a phone's 390 pixels are the column's; a point is 4/3 of a pixel."""
    shrunk = 358 / (96 * plt.rcParams["figure.figsize"][0])
    sizes = [plt.rcParams[f"{name}size"] for name in
             ("font.", "axes.title", "xtick.label", "ytick.label", "legend.font")]  # fmt: skip
    assert min(sizes) * 4 / 3 * shrunk > 8.9


def test_the_books_colour_maps_are_those_of_the_live_figures(book_style):
    def colours(name):
        return np.array([plt.get_cmap(name)(share)[:3] for share in (0.0, 0.5, 1.0)])

    def expected(*names):
        return np.array([rgb(name) for name in names])

    step = 1.5 / 255
    np.testing.assert_allclose(colours("vitlib"), expected("#ffffff", BLUE, NIGHT), atol=step)
    signs = expected(BLUE, "#ffffff", ORANGE)
    np.testing.assert_allclose(colours("vitlib_diverging"), signs, atol=step)


def test_live_plot_redraws_one_display(monkeypatch):
    import IPython
    import IPython.display

    fit(tiny_model(), tiny_data(), SHORT, callbacks=[LivePlot(every=1)])  # no notebook: no harm
    shown, updates = [], []

    class Handle:
        def update(self, history):
            updates.append(history._repr_svg_())

    def display(history, display_id):
        shown.append(history._repr_svg_())
        return Handle()

    class Shell:
        kernel = object()

    monkeypatch.setattr(IPython, "get_ipython", Shell)
    monkeypatch.setattr(IPython.display, "display", display)
    fit(tiny_model(), tiny_data(), SHORT, callbacks=[LivePlot(every=5)])
    assert len(shown) == 1  # step 5
    assert len(updates) == 2  # steps 10 and 12
    assert updates[-1].startswith("<svg")
    assert updates[0] != shown[0]
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        LivePlot(every=0)


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("猫", "[U+732B]"),
        ("été", "été"),
        ("قط", "قط"),  # DejaVu has Arabic
        ("🦊\ufe0f fox", "[fox face] fox"),
        ("$5 \\alpha _hidden", "$5 \\alpha _hidden"),
    ],
)
@pytest.mark.filterwarnings("error:Glyph")
def test_what_the_font_lacks_is_written_as_a_substitute(text, drawn):
    figure = plot_maps(GREY[:1], {text: MAPS["one"][:1]}, [text])
    figure.savefig(io.BytesIO())  # matplotlib warns of each box that it draws
    titles = [ax.get_title().replace("\n", " ") for ax in figure.axes]
    assert titles == [drawn, drawn]
    assert not any(ax.title.get_parse_math() for ax in figure.axes)
