"""A model's results on test pictures as one HTML page that needs no other file.

    accuracy -> curves of the run -> the worst mistakes -> confusion matrix -> accuracy by class
    -> what was done

The page has no scripts and makes no requests: curves are SVG, pictures are embedded, and colours
follow the reader's light or dark scheme. Text from outside, such as a class's name, is escaped.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path

import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from vitlib.data import LabelledImages
from vitlib.explain import occlusion
from vitlib.explain.methods import find_method
from vitlib.files import atomic_write
from vitlib.matching import normalised_for
from vitlib.model import VisionTransformer
from vitlib.palette import BLUE, ORANGE, rgb
from vitlib.report.charts import heat_map, interval_bar, line_chart
from vitlib.train import Evaluation, History

_MAX_MISTAKES = 12  # that are shown, the most confident first
_MAX_TABLE = 12  # classes up to which the confusion matrix is a table with numbers
_MAX_CONFUSIONS = 10  # pairs of classes that are listed


@dataclass(frozen=True)
class Report:
    """The content of a page.

    Args:
        title: the headline, as plain text like everything else here.
        classes: the names of the model's classes.
        images: the test pictures.
        result: the model's answers to them.
        settings: what was done, as rows of a table, in this order; line breaks are kept.
        history: of the training run, for the curves; None leaves them out.
    """

    title: str
    classes: Sequence[str]
    images: LabelledImages
    result: Evaluation
    settings: Mapping[str, str]
    history: History | None = None


def write_report(
    path: Path, report: Report, model: VisionTransformer, progress: bool = True
) -> None:
    """Write the page to `path`, completely or not at all.

    `model` is run on its worst mistakes to explain them. For a large model that takes some seconds;
    with `progress`, a bar on stderr shows it.
    """
    page = render(report, model, progress)
    with atomic_write(path) as temporary:
        temporary.write_text(page, "utf-8")


def render(report: Report, model: VisionTransformer, progress: bool = False) -> str:
    """The page as HTML text; see `write_report`."""
    colours = f":root {{ --blue: {BLUE}; --orange: {ORANGE}; }}\n"
    style = colours + files(__package__).joinpath("report.css").read_text("utf-8")
    title = escape(report.title)
    parts = [
        _accuracy_section(report),
        _curves_section(report.history) if report.history and report.history.loss else "",
        _mistakes_section(report, model, progress),
        _confusion_section(report),
        _class_section(report),
        _settings_section(report),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{title}</title>\n<style>\n{style}</style>\n'
        f"</head>\n<body>\n<main>\n<h1>{title}</h1>\n{''.join(parts)}</main>\n</body>\n</html>\n"
    )


def wilson_interval(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """An interval for the true share, if `right` of `count` answers were right; z = 1.96 means 95%.

    Unlike share ± z · standard error, it has a width even at 0 and 1, and suits small counts.
    Raises ValueError unless 0 ≤ right ≤ count and count ≥ 1.
    Source: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".
    """
    if not 0 <= right <= count or count < 1:
        raise ValueError(f"expected right between 0 and count, at least 1: got {right} of {count}")
    share, shrink = right / count, 1 + z * z / count
    centre = (share + z * z / (2 * count)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def _accuracy_section(report: Report) -> str:
    labels = report.result.labels
    count, right = len(labels), int((report.result.predictions == labels).sum())
    low, high = wilson_interval(right, count)
    sizes = torch.bincount(labels, minlength=len(report.classes))
    largest = int(sizes.argmax())
    return (
        f'<p class="figure">{right / count:.1%}</p>\n'
        f"<p>of the test pictures are classified correctly: {right:,} of {count:,}. With this many "
        f"pictures, the accuracy on other pictures of the same kind lies between {low:.1%} and "
        f"{high:.1%} (95% interval by Wilson’s formula). Always answering "
        f"“{_class_name(report, largest)}” would give {int(sizes[largest]) / count:.1%}.</p>\n"
    )


def _curves_section(history: History) -> str:
    charts = [
        line_chart("Training loss and its running mean", history.loss, smoothed=True),
        line_chart("Learning rate", history.lr),
    ]
    if history.val_accuracy:
        percent = [100 * accuracy for accuracy in history.val_accuracy]
        title = f"Validation accuracy in %, at the end {percent[-1]:.1f}"
        charts.append(line_chart(title, percent, history.val_steps, history.config.steps))
    return f'<h2>The run</h2>\n<div class="curves">\n{"".join(charts)}</div>\n'


def _mistakes_section(report: Report, model: VisionTransformer, progress: bool) -> str:
    result = report.result
    probabilities = result.logits.softmax(dim=1)  # (n, K)
    confidence = probabilities.max(dim=1).values
    wrong = (result.predictions != result.labels).nonzero()[:, 0]
    head = "<h2>The worst mistakes</h2>\n"
    if not len(wrong):
        return f"{head}<p>There are none: all {len(result.labels):,} answers are right.</p>\n"
    worst = wrong[confidence[wrong].argsort(descending=True, stable=True)][:_MAX_MISTAKES]
    square = _square_size(model)
    shown = f"{len(worst)} of {len(wrong):,}" if len(worst) < len(wrong) else f"all {len(wrong)}"
    figures = [
        _mistake_figure(report, model, int(number), probabilities[number], square)
        for number in tqdm(
            worst, desc="explaining mistakes", delay=2, leave=False, disable=not progress
        )
    ]
    return (
        f"{head}<p>Shown: {shown}, the most confident first; for some of them, it may be the label "
        f"that is wrong. On the left is the picture as the model saw it. In the middle is its "
        f"<b>attention</b>: how much of each patch the last layer passes on to what the head "
        f"reads, averaged over all attention heads. On the right is what the answer rests on, by "
        f"<b>occlusion</b>: squares of {square[0]}×{square[1]} pixels are covered one after the "
        f"other, with the mean colour that the model subtracts, and the model answers again. "
        f"Orange: with this square covered, the answer loses probability, so the square is "
        f"evidence for it. Blue: it gains. Each map has its own scale.</p>\n"
        f'<p class="small">What the maps do not show: attention tells where the last layer looked, '
        f"which need not be what decided the answer, since it takes neither the answer nor the "
        f"earlier layers into account. Occlusion misses evidence that is in two places, since "
        f"covering one of them changes little, and anything finer than a square. Neither tells "
        f"why a place is evidence for an answer. And the model was not trained on pictures with "
        f"covered squares."
        f'</p>\n<div class="mistakes">\n{"".join(figures)}</div>\n'
    )


def _mistake_figure(
    report: Report,
    model: VisionTransformer,
    number: int,
    probabilities: Float[Tensor, "K"],
    square: tuple[int, int],
) -> str:
    given, true = int(probabilities.argmax()), int(report.result.labels[number])
    inputs = normalised_for(model, report.images)[number][0][None].to(model.cls_token)
    attention = find_method(model, "attention").make(inputs)[0].float().cpu()  # (h, w) patches
    drops = occlusion(model, inputs, given, patch=square)[0].float().cpu()  # (h, w) squares
    p = float(probabilities[given])
    left = p * math.exp(-float(drops.max()))  # of its probability
    strongest = f"with the most orange square covered, the answer’s probability is {left:.1%}"
    if drops.max() <= 0:
        strongest = "no square is evidence for the answer: covering any of them raises it"
    pixels = report.images.pixels(number)  # (C, H, W)
    coarse = ' class="coarse"' if max(pixels.shape[1:]) < 100 else ""
    picture = f'<img{coarse} src="{_pixels_url(pixels)}" alt='
    answer, truth = _class_name(report, given), _class_name(report, true)
    maps = {
        "where the last layer’s attention lies": attention,
        f"what the answer {answer} rests on": drops,
    }
    layers = "".join(
        f'<div class="layers">{picture}""><img class="map" src="{_map_url(values)}" '
        f'alt="map of {what}"></div>'
        for what, values in maps.items()
    )
    return (
        f'<figure>\n<div class="views">{picture}"test picture {number}, of class {truth}">'
        f"{layers}</div>\n"
        f"<figcaption>Answer <b>{answer}</b> ({p:.1%}), truth <b>{truth}</b> "
        f'({float(probabilities[true]):.1%})<br><span class="small">test picture {number}; '
        f"{strongest}</span></figcaption>\n"
        f"</figure>\n"
    )


def _square_size(model: VisionTransformer) -> tuple[int, int]:
    """Height and width of the squares for occlusion, in pixels: about 4 to 8 of them fill a side.

    A square is one or more whole patches. A single patch of very many would change next to nothing,
    and each costs a forward pass.
    """
    sides = []
    for patches, pixels in zip(model.grid_size, model.patch_size, strict=True):
        fitting = [k for k in range(1, patches + 1) if not patches % k and 4 <= patches // k <= 8]
        sides.append(pixels * min(fitting, default=1))
    return sides[0], sides[1]


def _pixels_url(pixels: UInt8[Tensor, "C H W"]) -> str:
    """The picture as a data: URL; a large one as JPEG, which takes a tenth of the bytes."""
    array = pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).numpy()
    small = max(array.shape[:2]) < 100
    return _data_url(Image.fromarray(array), "PNG" if small else "JPEG")


def _map_url(values: Float[Tensor, "h w"]) -> str:
    """A map as the data: URL of a tiny picture with one pixel per value; CSS enlarges it."""
    opacity = 200 * values.abs() / values.abs().max().clamp(min=1e-30)
    hue = torch.where(values[..., None] < 0, torch.tensor(rgb(BLUE)), torch.tensor(rgb(ORANGE)))
    pixels = torch.cat([hue, opacity[..., None].round()], dim=-1).to(torch.uint8)  # (h, w, 4)
    return _data_url(Image.fromarray(pixels.numpy()), "PNG")


def _data_url(picture: Image.Image, kind: str) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, quality=88)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _confusion_section(report: Report) -> str:
    counts = _count_answers(report)
    if len(report.classes) <= _MAX_TABLE:
        names, matrix = "", _confusion_table(report, counts)
    else:
        names, matrix = ", by the numbers of the classes in the table below", heat_map(counts)
    return (
        "<h2>Confusion matrix</h2>\n<p>One row for each true class, one column for each answer"
        f"{names}. Blue is right, orange is wrong; the stronger the colour, the larger the share "
        f"of the row.</p>\n{matrix}{_confusions(report, counts)}"
    )


def _confusion_table(report: Report, counts: Int64[Tensor, "K K"]) -> str:
    names = [_class_name(report, k) for k in range(len(report.classes))]
    head = "".join(f'<th scope="col"><span title="{n}">{n}</span></th>' for n in names)
    rows = []
    for true, row in enumerate(counts.tolist()):
        cells = ""
        for given, count in enumerate(row):
            kind = "right" if given == true else "wrong"
            share = round(55 * count / max(1, sum(row)))  # % of the colour; text stays legible
            cells += (
                f'<td class="{kind}" style="--share:{share}%">{count}</td>'
                if count
                else '<td class="none">0</td>'
            )
        rows.append(f'<tr><th scope="row" title="{names[true]}">{names[true]}</th>{cells}</tr>\n')
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="confusion matrix">'
        f'<table class="confusion">\n<thead><tr><td class="corner"></td>{head}</tr>'
        f"</thead>\n<tbody>\n{''.join(rows)}</tbody>\n</table></div>\n"
    )


def _confusions(report: Report, counts: Int64[Tensor, "K K"]) -> str:
    """The pairs of classes that are confused most often, in words."""
    wrong = counts.clone().fill_diagonal_(0)
    order = wrong.flatten().argsort(descending=True, stable=True)[:_MAX_CONFUSIONS].tolist()
    size = len(counts)
    items = [
        f"<li>{_class_name(report, k // size)} taken for {_class_name(report, k % size)}: "
        f"{int(wrong[k // size, k % size])} of {int(counts[k // size].sum())}</li>\n"
        for k in order
        if wrong.flatten()[k]
    ]
    return f"<p>Most frequent:</p>\n<ul>\n{''.join(items)}</ul>\n" if items else ""


def _class_section(report: Report) -> str:
    counts = _count_answers(report)
    totals, rights = counts.sum(dim=1).tolist(), counts.diagonal().tolist()
    rows = []
    for k in sorted(range(len(totals)), key=lambda k: rights[k] / totals[k] if totals[k] else 2):
        if not totals[k]:
            measured = '<td class="number">–</td><td></td>'
        else:
            low, high = wilson_interval(rights[k], totals[k])
            share = rights[k] / totals[k]
            measured = (
                f'<td class="number">{share:.0%}</td>'
                f'<td class="bar">{interval_bar(share, low, high)}</td>'
            )
        name = _class_name(report, k)
        rows.append(
            f'<tr><td class="number">{k}</td><th scope="row" class="name">{name}</th>'
            f'<td class="number">{rights[k]} of {totals[k]}</td>{measured}</tr>\n'
        )
    return (
        "<h2>Accuracy by class</h2>\n<p>The worst class comes first. The line through each dot is "
        "the 95% interval: if two of them overlap widely, there are too few pictures to say which "
        "class is harder.</p>\n"
        '<div class="scroll" tabindex="0" role="region" aria-label="accuracy by class"><table>\n'
        '<thead><tr><th scope="col" class="number">no.</th><th scope="col">class</th>'
        '<th scope="col" class="number">right</th><th scope="col" class="number">share</th>'
        f'<th scope="col">0 to 100%</th></tr></thead>\n<tbody>\n{"".join(rows)}</tbody>\n'
        "</table></div>\n"
    )


def _settings_section(report: Report) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>\n'
        for name, value in report.settings.items()
    )
    return f'<h2>What was done</h2>\n<table class="settings">\n{rows}</table>\n'


def _count_answers(report: Report) -> Int64[Tensor, "K K"]:
    """How often each true class (row) got each answer (column)."""
    size = len(report.classes)
    pairs = report.result.labels * size + report.result.predictions
    return torch.bincount(pairs, minlength=size * size).reshape(size, size)


def _class_name(report: Report, number: int) -> str:
    return escape(report.classes[number])
