"""TeacherFigure in a page: its numbers are DistillationLoss's and autograd's, whatever is moved."""

import re

import pytest
import torch
from browsing import PHONE, serious_violations
from torch import nn
from torch.nn import functional as F
from widgets.test_teacher import figure, logits_of

from vitlib import DistillationLoss
from vitlib.widgets import TeacherFigure
from vitlib.widgets.figure import KIT
from vitlib.widgets.teacher import TAUS


@pytest.fixture
def show(show):
    """A page of these figures, in which all that is folded at first has been opened."""

    def opened(*shown, **options):
        page = show(*shown, **options)
        assert page.locator("details[open]").count() == 0
        for summary in page.locator("details > summary").all():
            summary.click()
        return page

    return opened


class Says(nn.Module):
    """A teacher that gives these logits to whatever it is shown."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, images):
        return self.logits


def distilled(teacher, class_logits, dist_logits, label, kind, tau, alpha):
    """Loss, its two terms, and the gradient of the teacher's term at the distillation logits."""
    outputs = class_logits[None], dist_logits[None].clone().requires_grad_()
    images, targets = torch.zeros(1, 1, 1, 1), torch.tensor([label])
    losses = [
        DistillationLoss(Says(teacher[None]), kind, weight, tau)(images, outputs, targets)
        for weight in (alpha, 0.0, 1.0)
    ]
    (gradient,) = torch.autograd.grad(losses[2], outputs[1])
    return *(float(loss.detach()) for loss in losses), gradient[0]


def number(text):
    """0.215 or 3.10 × 10⁻⁷ or −2 as a float."""
    text = text.replace("−", "-").replace(" × 10⁻", "e-")
    return float(text.translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")))


def shown(page, part, place=0):
    """The number in this part of the figure at this place."""
    return number(
        page.locator(".vitlib-figure").nth(place).locator(f"[data-part={part}]").inner_text()
    )


def table(page, place=0):
    """The names, and the numbers (K, 5): target, taught head; teacher, gradient, class head."""
    here = page.locator(".vitlib-figure").nth(place)
    columns = []
    for part, count in [("table", 2), ("more", 3)]:
        rows = here.locator(f"[data-part={part}] tbody tr")
        names = rows.locator("th").all_inner_texts()
        cells = [number(text) for text in rows.locator("td > span").all_inner_texts()]
        columns.append(torch.tensor(cells).view(len(names), count))
    return names, torch.cat(columns, dim=1)


close = {"rel": 6e-3, "abs": 5.1e-4}  # as many digits as are shown


def check(page, figure, place=0):
    """All that the page says of `figure`, which stands for the state it should be in."""
    teacher, class_logits, dist_logits = logits_of(figure)[figure.image]
    label = figure.labels[figure.image]
    loss, labels_term, teacher_term, gradient = distilled(
        teacher, class_logits, dist_logits, label, figure.kind, figure.tau, figure.alpha
    )
    soft = figure.kind == "soft"
    tau = figure.tau if soft else 1.0
    names, numbers = table(page, place)
    assert names[label].endswith("(true)")
    assert sum(name.endswith("(true)") for name in names) == 1
    one_hot = F.one_hot(teacher.argmax(), len(teacher)).float()
    columns = [
        (teacher / tau).softmax(0) if soft else one_hot,
        (dist_logits / tau).softmax(0),
        teacher.softmax(0),
        gradient,
        class_logits.softmax(0),
    ]
    torch.testing.assert_close(numbers, torch.stack(columns, 1), atol=5.1e-4, rtol=0)

    assert shown(page, "loss", place) == pytest.approx(loss, **close)
    assert shown(page, "label-term", place) == pytest.approx(labels_term, **close)
    assert shown(page, "teacher-term", place) == pytest.approx(teacher_term, **close)
    length = float(gradient.norm())
    assert shown(page, "gradient", place) == pytest.approx(length, **close)
    assert shown(page, "weighted", place) == pytest.approx(figure.alpha * length, **close)
    if soft:
        assert shown(page, "bare", place) == pytest.approx(length / tau**2, **close)
        assert shown(page, "kl", place) == pytest.approx(teacher_term / tau**2, **close)
    status = page.locator(".vitlib-figure").nth(place).locator("[data-part=status]").inner_text()
    start = f"Soft, τ = {figure.tau:g}" if soft else "Hard"
    assert status.startswith(f"{start}, α = {figure.alpha:g}: the loss is ")
    said = [number(text) for text in re.findall(r"\d+\.\d+(?: × 10⁻[⁰¹²³⁴⁵⁶⁷⁸⁹]+)?", status)][-3:]
    parts = [(1 - figure.alpha) * labels_term, figure.alpha * teacher_term]
    if min(parts) > 0:  # a 0 has no decimals to be found by
        assert said == pytest.approx([loss, *parts], **close)


STATES = [
    {},
    {"image": 1, "tau": 0.5, "alpha": 0.9},
    {"image": 2, "tau": 8.0, "alpha": 0.1},
    {"image": 1, "tau": 1.0, "alpha": 1.0},
    {"kind": "hard"},
    {"kind": "hard", "image": 2, "alpha": 0.0, "tau": 6.0},
    {"distilled": False, "tau": 0.75, "image": 1},
    {"distilled": False, "kind": "hard", "alpha": 0.7},
]


def test_numbers_are_those_of_the_loss_at_many_settings_and_figures_stay_apart(show):
    figures = [figure(**state) for state in STATES]
    page = show(*figures)
    page.locator(".vitlib-figure").nth(1).locator("[data-key=kind][value=hard]").check()
    figures[1].kind = "hard"
    for place, one in enumerate(figures):
        check(page, one, place)


def test_the_scripts_own_function_agrees_with_torch(show):
    """To 1e-5, relative: also for logits so far apart that most probabilities are 0."""
    page = show("<p>nothing</p>")
    script = KIT + TeacherFigure._script
    generator = torch.Generator().manual_seed(0)
    for spread in (0.0, 1e-3, 1.0, 10.0, 300.0):
        teacher, own, dist = torch.randn(3, 7, generator=generator) * spread
        for kind, tau in [("hard", 2.0), *(("soft", tau) for tau in TAUS)]:
            got = page.evaluate(
                f"([t, c, d, kind, tau]) => {{ {script}; return distil(t, c, d, 3, kind, tau); }}",
                [teacher.tolist(), own.tolist(), dist.tolist(), kind, tau],
            )
            # float64 all the way: the loss itself rounds to float32
            t, c, d = (z.double() for z in (teacher, own, dist))
            d.requires_grad_()
            term = (
                tau**2 * F.kl_div((d / tau).log_softmax(0), (t / tau).softmax(0), reduction="sum")
                if kind == "soft"
                else F.cross_entropy(d, t.argmax())
            )
            (gradient,) = torch.autograd.grad(term, d)
            assert got["teacherTerm"] == pytest.approx(float(term.detach()), rel=1e-5, abs=1e-12)
            assert got["labelTerm"] == pytest.approx(
                float(F.cross_entropy(c, torch.tensor(3))), rel=1e-5, abs=1e-12
            )
            assert got["gradient"] == pytest.approx(gradient.tolist(), rel=1e-5, abs=1e-12)
            loss = distilled(teacher, own, dist, 3, kind, tau, 0.5)[0]
            mine = (got["teacherTerm"] + got["labelTerm"]) / 2
            assert mine == pytest.approx(loss, rel=1e-4, abs=1e-5)


def test_keys_mouse_and_finger_move_it(show):
    want = figure()
    page = show(want, touch=True)
    tau = page.locator("input[data-key=tau]")
    for key, value in [("End", 8.0), ("ArrowLeft", 6.0), ("Home", 0.5)]:
        tau.press(key)
        want.tau = value
        check(page, want)
    assert tau.get_attribute("aria-valuetext") == "0.5"
    page.locator("input[data-key=kind]:checked").press("ArrowLeft")
    want.kind = "hard"
    check(page, want)
    assert tau.is_disabled()
    page.locator("label", has_text="soft").tap()
    want.kind = "soft"
    check(page, want)
    assert tau.is_enabled()
    box = tau.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    want.tau = 2.0
    check(page, want)
    box = page.locator("input[data-key=alpha]").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
    want.alpha = 1.0
    check(page, want)
    page.locator("input[data-key=image]").nth(2).check()
    want.image = 2
    check(page, want)


def test_the_curves_hold_the_gradient_for_every_tau(show):
    want = figure(image=1)
    page = show(want)
    label = page.locator("svg[role=img]").get_attribute("aria-label")
    found = {
        name: [number(text) for text in numbers.split(", ")]
        for name, numbers in re.findall(r"(with τ²|without|hard): ([^a-z]+?)\.(?= |$)", label)
    }
    models = logits_of(want)[1]
    lengths = [float(distilled(*models, 0, "soft", tau, 1.0)[-1].norm()) for tau in TAUS]
    assert found["with τ²"] == pytest.approx(lengths, **close)
    bare = [length / tau**2 for length, tau in zip(lengths, TAUS, strict=True)]
    assert found["without"] == pytest.approx(bare, **close)
    hard = float(distilled(*models, 0, "hard", 1.0, 1.0)[-1].norm())
    assert found["hard"] == pytest.approx([hard], **close)

    points = page.locator("svg[role=img] polyline").first.get_attribute("points").split()
    heights = torch.tensor([float(point.split(",")[1]) for point in points])
    most = max(*lengths, *bare, hard)
    torch.testing.assert_close(
        heights, 10 + 122 * (1 - torch.tensor(lengths) / most), atol=0.01, rtol=0
    )
    dot = page.locator("svg[role=img] circle").first
    assert float(dot.get_attribute("cy")) == pytest.approx(
        float(heights[TAUS.index(3.0)]), abs=0.01
    )


def test_for_a_large_tau_the_gradient_is_the_difference_of_the_logits(show):
    """As the figure's words have it: Hinton, Vinyals and Dean 2015, section 2.1."""
    generator = torch.Generator().manual_seed(3)
    teacher, own, dist = torch.randn(3, 6, generator=generator).double() * 0.1
    gradient = distilled(teacher, own, dist, 0, "soft", 8.0, 1.0)[-1]
    apart = (dist - dist.mean()) - (teacher - teacher.mean())
    torch.testing.assert_close(gradient.double(), apart / 6, rtol=0.02, atol=1e-4)


def test_bars_are_drawn_to_scale(show):
    want = figure()
    page = show(want)
    _, numbers = table(page)
    bars = []
    for part, count in [("table", 2), ("more", 3)]:
        found = page.locator(f"[data-part={part}] tbody .vt-track:not(.vt-thin) > .vt-bar")
        widths = found.evaluate_all(
            "all => all.map(bar => [parseFloat(bar.style.left) || 0, parseFloat(bar.style.width)])"
        )
        bars.append(torch.tensor(widths).view(-1, count, 2))
    bars = torch.cat(bars, dim=1)
    for column in (0, 1, 2, 4):
        torch.testing.assert_close(bars[:, column, 1], 100 * numbers[:, column], atol=0.06, rtol=0)
    gradient = numbers[:, 3]
    signs = torch.where(bars[:, 3, 0] < 50, -1.0, 1.0)
    ratio = signs * bars[:, 3, 1] / gradient
    sure = gradient.abs() > 0.05
    assert sure.sum() >= 2
    torch.testing.assert_close(
        ratio[sure], ratio[sure].mean().expand(int(sure.sum())), rtol=0.02, atol=0
    )
    thin = page.locator("tbody .vt-thin > .vt-bar").evaluate_all(
        "bars => bars.map(bar => parseFloat(bar.style.width))"
    )
    torch.testing.assert_close(torch.tensor(thin), bars[:, 3, 1] / 9, atol=1e-3, rtol=1e-3)


def test_columns_are_equally_wide_under_the_books_theme(show):
    """Or a probability would be drawn longer in the wider column. The theme sets `table-layout`."""
    page = show(figure())
    page.add_style_tag(content="main .vitlib-figure.vitlib-figure table { table-layout: auto }")
    widths = page.locator("[data-part=table] tbody tr:first-child .vt-track").evaluate_all(
        "tracks => tracks.map(track => track.getBoundingClientRect().width)"
    )
    assert len(widths) == 2
    assert abs(widths[0] - widths[1]) < 1, widths


def test_without_labels_only_the_teachers_term_is_known(show):
    page = show(figure(labels=None))
    teacher, class_logits, dist_logits = logits_of(figure())[0]
    term = distilled(teacher, class_logits, dist_logits, 0, "soft", 3.0, 0.5)[2]
    assert shown(page, "teacher-term") == pytest.approx(term, **close)
    assert "No label was given" in page.locator("[data-part=status]").inner_text()
    assert page.locator("[data-part=loss], [data-key=alpha]").count() == 0
    assert "true" not in " ".join(table(page)[0])
    page.locator("[data-key=kind][value=hard]").check()
    assert "keeps one label" in page.locator("[data-part=kept]").inner_text()
    assert "true" not in page.locator("[data-part=kept]").inner_text()


def test_what_softening_makes_of_the_teacher_is_said(show):
    want = figure(tau=4.0)
    p, asked = (logits_of(want)[0, 0].double().div(tau).softmax(0) for tau in (1.0, 4.0))
    best, other = p.topk(2).indices.tolist()
    assert show(want).locator("[data-part=kept]").inner_text() == (
        f"The teacher gives “{best}” {p[best]:.3f} and “{other}”, its second choice, "
        f"{p[other]:.3f}. At τ = 4 it asks for {asked[best]:.3f} and {asked[other]:.3f}."
    )


def test_what_hard_distillation_keeps_is_said(show):
    want = figure(kind="hard")
    page = show(want)
    for image, label in enumerate(want.labels):
        page.locator("input[data-key=image]").nth(image).check()
        p = logits_of(want)[image, 0].softmax(0)
        (highest, second), (best, other) = p.topk(2)
        truth = ", the true one" if best == label else f", though “{label}” is true"
        assert page.locator("[data-part=kept]").inner_text() == (
            f"Hard distillation keeps one label of the teacher, “{best}”{truth}. That it is "
            f"{highest:.3f} sure of it, and that “{other}” comes second with {second:.3f}, is lost."
        )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible_and_fits_a_phone(show, scheme):
    named = figure()
    named.classes = ["aeroplane", "ankle boot", "cat", "frog", "lorry with a trailer"]
    page = show(named, figure(distilled=False, kind="hard"), viewport=PHONE, scheme=scheme)
    assert serious_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    sizes = page.locator("svg text").evaluate_all(
        "texts => texts.map(text => text.getBoundingClientRect().height)"
    )
    assert min(sizes) >= 11
