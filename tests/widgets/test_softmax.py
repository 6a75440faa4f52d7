"""SoftmaxFigure in Python: what it is drawn from, and what it refuses."""

import numpy as np
import pytest
import torch
from traitlets import TraitError

from vitlib.widgets import SoftmaxFigure
from vitlib.widgets.softmax import KEYS, QUERIES, WIDTHS


def products_of(figure):
    """float64 (widths, queries, keys)"""
    flat = np.frombuffer(figure.products, np.float32)
    return torch.tensor(flat.reshape(len(WIDTHS), QUERIES, max(KEYS))).double()


def test_a_product_of_d_numbers_has_variance_d():
    products = products_of(SoftmaxFigure())
    for d, of_width in zip(WIDTHS, products, strict=True):
        assert float(of_width.var()) / d == pytest.approx(1, abs=0.35), d
    # the same numbers, more of them: each width's products are part of the next one's
    close = torch.corrcoef(products[-2:].flatten(1))[0, 1]
    assert float(close) == pytest.approx(0.5**0.5, abs=0.1)


def jacobian_norms(scores):
    """By autograd, of the weights with respect to each row of scores (queries, keys)."""
    jacobian = torch.func.vmap(torch.func.jacrev(lambda row: row.softmax(dim=-1)))(scores)
    return jacobian.flatten(1).norm(dim=1)


def test_the_figures_words_are_true():
    """The undivided scores keep the larger gradient with 64 keys up to d = 32, as it says."""
    products = products_of(SoftmaxFigure())
    for d, of_width in zip(WIDTHS, products, strict=True):
        plain = jacobian_norms(of_width).median()
        divided = jacobian_norms(of_width / d**0.5).median()
        assert (plain > divided) == (d <= 32), d


def test_the_gradient_is_the_root_mean_square_of_what_arrives_at_the_scores():
    scores = products_of(SoftmaxFigure())[WIDTHS.index(64)] / 8
    torch.manual_seed(0)
    rows = scores[:1].expand(20_000, -1).clone().requires_grad_()
    weights = rows.softmax(dim=-1)
    weights.backward(torch.randn_like(weights))
    arrived = rows.grad.square().sum(dim=-1).mean().sqrt()
    assert float(arrived) == pytest.approx(float(jacobian_norms(scores[:1])), rel=0.02)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("d", 5, "d must be one of 4, 8, 16, 32, 64, 128, 256, 512: got 5"),
        ("num_keys", 3, "num_keys must be one of 2, 4, 8, 16, 32, 64: got 3"),
        ("scale", "sqrt", "scale must be one of divide, none, multiply: got 'sqrt'"),
        ("temperature", 0.0, "temperature must be one of 0.1, .*: got 0.0"),
        ("temperature", float("nan"), "temperature must be one of 0.1, .*: got nan"),
        ("query", 9, "query must be from 0 to 8, for 9 queries: got 9"),
    ],
)
def test_bad_values(name, value, said):
    with pytest.raises(ValueError, match=said):
        SoftmaxFigure(**{name: value})
    figure = SoftmaxFigure()
    before = getattr(figure, name)
    with pytest.raises(TraitError, match=said):
        setattr(figure, name, value)
    assert getattr(figure, name) == before


def test_its_page_is_the_same_every_time_and_small():
    pages = [SoftmaxFigure(d=8, num_keys=4)._repr_mimebundle_()[0]["text/html"] for _ in "ab"]
    assert pages[0] == pages[1] != SoftmaxFigure()._repr_mimebundle_()[0]["text/html"]
    assert len(pages[0]) < 120_000
