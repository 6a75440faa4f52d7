"""A model's results on test pictures as one HTML page that needs nothing but itself.

No script, no request to anywhere: curves are SVG, pictures lie in the page, and colours follow the
reader's light or dark scheme. Whatever comes from outside, such as a class's name, is escaped.
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

from vitlib.data import ImageSet
from vitlib.explain import occlusion
from vitlib.explain.methods import find_method
from vitlib.files import atomic_write
from vitlib.matching import as_model_takes
from vitlib.model import VisionTransformer
from vitlib.palette import BLUE, ORANGE, rgb
from vitlib.report.charts import heat_map, interval_bar, line_chart
from vitlib.train import Evaluation, History

_MISTAKES = 12  # shown, the surest first
_TABLE = 12  # classes up to which the confusion matrix is a table with numbers
_CONFUSIONS = 10  # pairs of classes listed


@dataclass(frozen=True)
class Report:
    """What a page tells.

    Args:
        title: the headline, as plain text like everything else here.
        classes: names, one for each of the model's classes.
        images: the test pictures, and `result` what the model made of them.
        settings: what was done, as rows of a table, in this order; lines stay lines.
        history: of the training run, for the curves; None leaves them out.
    """

    title: str
    classes: Sequence[str]
    images: ImageSet
    result: Evaluation
    settings: Mapping[str, str]
    history: History | None = None


def write_report(
    path: Path, report: Report, model: VisionTransformer, progress: bool = True
) -> None:
    """Write the page to `path`, whole or not at all; `model` is asked about its worst mistakes.

    That takes some seconds for a large model; with `progress`, a bar on stderr shows it.
    """
    page = render(report, model, progress)
    with atomic_write(path) as temporary:
        temporary.write_text(page, "utf-8")


def render(report: Report, model: VisionTransformer, progress: bool = False) -> str:
    """The page as text."""
    colours = f":root {{ --blue: {BLUE}; --orange: {ORANGE}; }}\n"
    style = colours + files(__package__).joinpath("report.css").read_text("utf-8")
    title = escape(report.title)
    parts = [
        _accuracy(report),
        _curves(report.history) if report.history and report.history.loss else "",
        _mistakes(report, model, progress),
        _confusion(report),
        _by_class(report),
        _settings(report),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{title}</title>\n<style>\n{style}</style>\n'
        f"</head>\n<body>\n<main>\n<h1>{title}</h1>\n{''.join(parts)}</main>\n</body>\n</html>\n"
    )


def wilson_interval(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Where the true share lies if `right` of `count` were counted; z = 1.96 gives 95%.

    Unlike share ± z · standard error, it has a width at 0 and 1, and fits small counts.
    Source: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".
    """
    if not 0 <= right <= count or count < 1:
        raise ValueError(f"expected right between 0 and count, at least 1: got {right} of {count}")
    share, shrink = right / count, 1 + z * z / count
    centre = (share + z * z / (2 * count)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def _accuracy(report: Report) -> str:
    labels = report.result.labels
    count, right = len(labels), int((report.result.predictions == labels).sum())
    low, high = wilson_interval(right, count)
    sizes = torch.bincount(labels, minlength=len(report.classes))
    largest = int(sizes.argmax())
    return (
        f'<p class="figure">{right / count:.1%}</p>\n'
        f"<p>of the test pictures are answered rightly: {right:,} of {count:,}. With so many "
        f"pictures, the accuracy on further ones of the same kind lies between {low:.1%} and "
        f"{high:.1%} (95% interval by Wilson’s formula). To answer always "
        f"“{_name(report, largest)}” would give {int(sizes[largest]) / count:.1%}.</p>\n"
    )


def _curves(history: History) -> str:
    charts = [
        line_chart("Training loss and its running mean", history.loss, smoothed=True),
        line_chart("Learning rate", history.lr),
    ]
    if history.val_accuracy:
        percent = [100 * accuracy for accuracy in history.val_accuracy]
        title = f"Validation accuracy in %, at the end {percent[-1]:.1f}"
        charts.append(line_chart(title, percent, history.val_steps, history.config.steps))
    return f'<h2>The run</h2>\n<div class="curves">\n{"".join(charts)}</div>\n'


def _mistakes(report: Report, model: VisionTransformer, progress: bool) -> str:
    result = report.result
    probabilities = result.logits.softmax(dim=1)  # (n, K)
    sure = probabilities.max(dim=1).values
    wrong = (result.predictions != result.labels).nonzero()[:, 0]
    head = "<h2>The worst mistakes</h2>\n"
    if not len(wrong):
        return f"{head}<p>There is none: all {len(result.labels):,} answers are right.</p>\n"
    worst = wrong[sure[wrong].argsort(descending=True, stable=True)][:_MISTAKES]
    square = _square(model)
    shown = f"{len(worst)} of {len(wrong):,}" if len(worst) < len(wrong) else f"all {len(wrong)}"
    figures = [
        _mistake(report, model, int(number), probabilities[number], square)
        for number in tqdm(
            worst, desc="looking into mistakes", delay=2, leave=False, disable=not progress
        )
    ]
    return (
        f"{head}<p>Shown: {shown}, the surest first; with some of them, the label may be what is "
        f"wrong. On the left the picture as the model saw it. In the middle its <b>attention</b>: "
        f"how much of each patch the last layer passes on to what the head reads, mean of all "
        f"attention heads. On the right what the answer rests on, by <b>occlusion</b>: squares of "
        f"{square[0]}×{square[1]} pixels are covered with one colour, the mean that the model "
        f"subtracts, one after the other, and the model answers again. Orange: covered, the answer "
        f"loses probability, so the square spoke for it. Blue: it gains. Each map has a scale of "
        f"its own.</p>\n"
        f'<p class="small">What the maps do not show: attention says where the last layer looked, '
        f"which need not be what decided, as it knows neither the answer nor the layers before. "
        f"Occlusion misses evidence that stands in two places, since covering either changes "
        f"little, and anything finer than a square; neither says why a place speaks for an answer. "
        f"A covered square is itself a sight that the model was not trained on."
        f'</p>\n<div class="mistakes">\n{"".join(figures)}</div>\n'
    )


def _mistake(
    report: Report,
    model: VisionTransformer,
    number: int,
    probabilities: Float[Tensor, "K"],
    square: tuple[int, int],
) -> str:
    given, true = int(probabilities.argmax()), int(report.result.labels[number])
    inputs = as_model_takes(model, report.images)[number][0][None].to(model.cls_token)
    attention = find_method(model, "attention").make(inputs)[0].float().cpu()  # (h, w) patches
    drops = occlusion(model, inputs, given, patch=square)[0].float().cpu()  # (h, w) squares
    p = float(probabilities[given])
    left = p * math.exp(-float(drops.max()))  # of its probability
    strongest = f"with the most orange square covered, the answer has {left:.1%}"
    if drops.max() <= 0:
        strongest = "no square speaks for the answer: each covered one raises it"
    pixels = report.images.images[number]  # (C, H, W)
    coarse = ' class="coarse"' if max(pixels.shape[1:]) < 100 else ""
    picture = f'<img{coarse} src="{_picture(pixels)}" alt='
    answer, truth = _name(report, given), _name(report, true)
    maps = {
        "where the last layer’s attention lies": attention,
        f"what the answer {answer} rests on": drops,
    }
    layers = "".join(
        f'<div class="layers">{picture}""><img class="map" src="{_colours(values)}" '
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


def _square(model: VisionTransformer) -> tuple[int, int]:
    """Patches side by side, so that about 4 to 8 squares fill a side: a single small patch of many
    changes next to nothing, and each costs a forward pass.
    """
    sides = []
    for patches, pixels in zip(model.grid_size, model.patch_size, strict=True):
        fitting = [k for k in range(1, patches + 1) if not patches % k and 4 <= patches // k <= 8]
        sides.append(pixels * min(fitting, default=1))
    return sides[0], sides[1]


def _picture(pixels: UInt8[Tensor, "C H W"]) -> str:
    """The picture as a data: address. JPEG where it is large: a tenth of the size."""
    array = pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).numpy()
    small = max(array.shape[:2]) < 100
    return _address(Image.fromarray(array), "PNG" if small else "JPEG")


def _colours(values: Float[Tensor, "h w"]) -> str:
    """A map as a tiny picture, one pixel per square; the style sheet enlarges it."""
    opacity = 200 * values.abs() / values.abs().max().clamp(min=1e-30)
    hue = torch.where(values[..., None] < 0, torch.tensor(rgb(BLUE)), torch.tensor(rgb(ORANGE)))
    pixels = torch.cat([hue, opacity[..., None].round()], dim=-1).to(torch.uint8)  # (h, w, 4)
    return _address(Image.fromarray(pixels.numpy()), "PNG")


def _address(picture: Image.Image, kind: str) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, quality=88)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _confusion(report: Report) -> str:
    counts = _counts(report)
    if len(report.classes) <= _TABLE:
        names, matrix = "", _confusion_table(report, counts)
    else:
        names, matrix = ", by the numbers of the classes in the table below", heat_map(counts)
    return (
        "<h2>Which class for which</h2>\n<p>A row for each true class, a column for each answer"
        f"{names}. Blue: right; orange: wrong; the stronger, the larger the share of its row.</p>\n"
        f"{matrix}{_confusions(report, counts)}"
    )


def _confusion_table(report: Report, counts: Int64[Tensor, "K K"]) -> str:
    names = [_name(report, k) for k in range(len(report.classes))]
    head = "".join(f'<th scope="col"><span title="{n}">{n}</span></th>' for n in names)
    rows = []
    for true, row in enumerate(counts.tolist()):
        cells = ""
        for given, count in enumerate(row):
            kind = "right" if given == true else "wrong"
            share = round(55 * count / max(1, sum(row)))  # % of the colour: text stays legible
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
    order = wrong.flatten().argsort(descending=True, stable=True)[:_CONFUSIONS].tolist()
    size = len(counts)
    items = [
        f"<li>{_name(report, k // size)} taken for {_name(report, k % size)}: "
        f"{int(wrong[k // size, k % size])} of {int(counts[k // size].sum())}</li>\n"
        for k in order
        if wrong.flatten()[k]
    ]
    return f"<p>Most often:</p>\n<ul>\n{''.join(items)}</ul>\n" if items else ""


def _by_class(report: Report) -> str:
    counts = _counts(report)
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
        rows.append(
            f'<tr><td class="number">{k}</td><th scope="row" class="name">{_name(report, k)}</th>'
            f'<td class="number">{rights[k]} of {totals[k]}</td>{measured}</tr>\n'
        )
    return (
        "<h2>Accuracy by class</h2>\n<p>The worst first. The line through each dot is the 95% "
        "interval: where two overlap widely, the pictures are too few to say which class is "
        "harder.</p>\n"
        '<div class="scroll" tabindex="0" role="region" aria-label="accuracy by class"><table>\n'
        '<thead><tr><th scope="col" class="number">no.</th><th scope="col">class</th>'
        '<th scope="col" class="number">right</th><th scope="col" class="number">share</th>'
        f'<th scope="col">0 to 100%</th></tr></thead>\n<tbody>\n{"".join(rows)}</tbody>\n'
        "</table></div>\n"
    )


def _settings(report: Report) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>\n'
        for name, value in report.settings.items()
    )
    return f'<h2>What was done</h2>\n<table class="settings">\n{rows}</table>\n'


def _counts(report: Report) -> Int64[Tensor, "K K"]:
    """How often each true class (row) got each answer (column)."""
    size = len(report.classes)
    pairs = report.result.labels * size + report.result.predictions
    return torch.bincount(pairs, minlength=size * size).reshape(size, size)


def _name(report: Report, number: int) -> str:
    return escape(report.classes[number])
