"""SoftmaxFigure: what √d, temperature and the number of keys do to attention weights."""

from typing import Any

import torch
from traitlets import Bytes, Float, Int, List, Unicode, validate

from vitlib.widgets.figure import Figure, check_choice, check_index

WIDTHS = (4, 8, 16, 32, 64, 128, 256, 512)
KEYS = (2, 4, 8, 16, 32, 64)
SCALES = ("divide", "none", "multiply")  # the products by √d, not at all, or by mistake
TEMPERATURES = (0.1, 0.16, 0.25, 0.4, 0.63, 1.0, 1.6, 2.5, 4.0, 6.3, 10.0)
QUERIES = 9  # odd, so that one of them is the median


class SoftmaxFigure(Figure, script="softmax.js"):
    """Move d, the number of keys, the scale and the temperature; the weights follow.

    Nine queries and 64 keys of independent normal numbers with variance 1 are drawn once, from a
    fixed seed. A score is the dot product of the first d numbers of a query and of a key, times the
    scale, divided by the temperature. The figure shows the scores and weights of one query, their
    entropy, and the gradient: the Frobenius norm of the softmax's Jacobian diag(w) − w wᵀ. If a
    random gradient of variance 1 comes back from the weights, this is the root mean square of the
    length of what arrives at the scores. Two curves show entropy (the mean over the nine queries)
    and gradient (the median) for every d. Scores are orange above zero and blue below.

    Args:
        d: one of WIDTHS.
        num_keys: how many of the keys are used, one of KEYS.
        scale: "divide" the products by √d, "none", or "multiply", a mistake.
        temperature: one of TEMPERATURES.
        query: which of the nine, counted from 0.

    Raises ValueError for any other value.
    """

    d = Int(64).tag(sync=True)
    num_keys = Int(16).tag(sync=True)
    scale = Unicode("divide").tag(sync=True)
    temperature = Float(1.0).tag(sync=True)
    query = Int(0).tag(sync=True)
    widths = List(Int(), default_value=list(WIDTHS)).tag(sync=True)
    key_counts = List(Int(), default_value=list(KEYS)).tag(sync=True)
    temperatures = List(Float(), default_value=list(TEMPERATURES)).tag(sync=True)
    queries = Int(QUERIES).tag(sync=True)
    products = Bytes(help="float32 (widths, queries, 64): q · k before any scale").tag(sync=True)

    def __init__(
        self,
        d: int = 64,
        num_keys: int = 16,
        scale: str = "divide",
        temperature: float = 1.0,
        query: int = 0,
    ):
        super().__init__(
            title="From scores to weights",
            alt="Bars of one query's scores and attention weights, with their entropy and gradient "
            "as numbers and, for every d, as curves. Choose d, the number of keys, the scale and "
            "the temperature. Without division by the root of d, a large d makes the scores large, "
            "one key takes nearly all the weight, and the gradient vanishes.",
            products=_products(),
        )
        self.d, self.num_keys, self.scale = d, num_keys, scale
        self.temperature, self.query = temperature, query

    @validate("d")
    def _check_d(self, proposal: Any) -> int:
        return check_choice("d", proposal.value, WIDTHS)

    @validate("num_keys")
    def _check_num_keys(self, proposal: Any) -> int:
        return check_choice("num_keys", proposal.value, KEYS)

    @validate("scale")
    def _check_scale(self, proposal: Any) -> str:
        return check_choice("scale", proposal.value, SCALES)

    @validate("temperature")
    def _check_temperature(self, proposal: Any) -> float:
        return check_choice("temperature", proposal.value, TEMPERATURES)

    @validate("query")
    def _check_query(self, proposal: Any) -> int:
        return check_index("query", proposal.value, QUERIES, "queries")


def _products() -> bytes:
    """q · k of the first d numbers, for each d, query and key, as float32."""
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(QUERIES, max(WIDTHS), generator=generator, dtype=torch.float64)
    k = torch.randn(max(KEYS), max(WIDTHS), generator=generator, dtype=torch.float64)
    return torch.stack([q[:, :d] @ k[:, :d].T for d in WIDTHS]).float().numpy().tobytes()
