"""PositionFigure: which position embeddings are similar, on the model's grid and on others."""

from typing import Any

import torch
from torch import Tensor
from traitlets import Bytes, Int, List, Unicode, observe, validate

from vitlib.matching import as_vision_transformer, prefix_names
from vitlib.model import VisionTransformer
from vitlib.pos_embed import resample_pos_embed
from vitlib.widgets.figure import Figure, check_choice, check_index, middle_patch

COLOURS = ("fixed", "stretched")  # from −1 to 1, or from the smallest to the largest shown
_MAX_POSITIONS = 256  # patches; more would make the page heavy and slow
_SIDES = range(2, 17)


class PositionFigure(Figure, script="position.js"):
    """Choose a position: the cosines of its vector with those of all others, on grids of any size.

    `kind` says which vectors: "learned" are the model's own, resampled to the grid as
    `resample_pos_embed` does it; "sincos" are those of `sincos_2d` at the model's width, computed
    for each grid; with "none" there is nothing to compare. Kinds that the model cannot have
    (learned ones in a model without, sin-cos at a width that 4 does not divide) are not offered.

    Args:
        model: a VisionTransformer with at most 256 patches.
        position: counted as in `pos_embed`, prefix tokens first. Default: the middle of the grid.
        kind: one of `kinds`; default: the model's own.
        rows: of the grid, one of those in `grids`; the columns follow from the shape of the model's
            own grid. Default: the model's own.
        colours: "fixed" (cosines from −1 to 1) or "stretched" (from the smallest to the largest of
            the grid).

    The page computes the cosines from float32 vectors, so they agree with torch's to about 1e-6. A
    vector of length 0, such as prefix tokens have with sin-cos, has no cosine, and the figure says
    so.
    Raises ValueError for another model, too many positions, positions that are not finite, and
    values that do not fit.
    """

    kind = Unicode().tag(sync=True)
    rows = Int().tag(sync=True)
    position = Int().tag(sync=True)
    colours = Unicode("fixed").tag(sync=True)
    kinds = List(Unicode()).tag(sync=True)
    grids = List(List(Int()), help="(rows, columns), by rows").tag(sync=True)
    own_grid = List(Int(), help="the model's own (rows, columns)").tag(sync=True)
    prefix = List(Unicode(), help="names of the tokens before the patches").tag(sync=True)
    dim = Int(help="D, the width of a vector").tag(sync=True)
    vectors = Bytes(
        help="float32 (prefix + N, min(D, prefix + N)): the learned vectors, turned so that their "
        "products stay and the numbers get fewer"
    ).tag(sync=True)
    maps = Bytes(
        help="float32, for each grid (rows, own rows) and (columns, own columns): how resampling "
        "mixes the learned vectors"
    ).tag(sync=True)

    def __init__(
        self,
        model: VisionTransformer,
        position: int | None = None,
        kind: str | None = None,
        rows: int | None = None,
        colours: str = "fixed",
    ):
        model = as_vision_transformer(model)
        own = model.grid_size
        if own[0] * own[1] > _MAX_POSITIONS:
            count = own[0] * own[1] + model.num_prefix_positions
            raise ValueError(
                f"the model has {own[0]}×{own[1]} positions, and the figure would embed "
                f"{4 * count * min(count, model.embed_dim):,} bytes: at most {_MAX_POSITIONS} "
                "positions are shown. Make a model with a smaller img_size, and if these "
                "positions matter, give it resample_pos_embed(model.pos_embed, its grid_size, "
                "model.grid_size, model.num_prefix_positions)"
            )
        own_kind = model.config["pos_embed"]
        kinds = ["learned"] if own_kind == "learned" else []
        kinds += ["sincos"] if model.embed_dim % 4 == 0 else []
        kinds += ["none"]
        grids = _grids(own)
        vectors = maps = b""
        if own_kind == "learned":
            assert model.pos_embed is not None
            vectors = _compress_vectors(model.pos_embed)
            maps = b"".join(
                _resampling_matrix(own[i], grid[i], model.pos_antialias)
                for grid in grids
                for i in (0, 1)
            )
        super().__init__(
            title="Positions that are alike",
            alt="For one position of a grid of patches, the cosine of its position embedding with "
            "those of all others, as a map. Choose the position, the kind of embeddings (learned, "
            "sine and cosine, none) and the size of the grid.",
            kinds=kinds,
            grids=[list(grid) for grid in grids],
            own_grid=list(own),
            prefix=prefix_names(model)[: model.num_prefix_positions],
            dim=model.embed_dim,
            vectors=vectors,
            maps=maps,
        )
        self.rows = own[0] if rows is None else rows
        middle = middle_patch(model.num_prefix_positions, self.grid_size)
        self.position = middle if position is None else position
        self.kind, self.colours = own_kind if kind is None else kind, colours

    @property
    def grid_size(self) -> tuple[int, int]:
        """(rows, columns) of the grid that is shown."""
        return self.rows, dict(self.grids)[self.rows]

    @property
    def count(self) -> int:
        """How many positions there are, prefix tokens included."""
        rows, columns = self.grid_size
        return len(self.prefix) + rows * columns

    @validate("kind")
    def _check_kind(self, proposal: Any) -> str:
        return check_choice("kind", proposal.value, self.kinds, " for this model")

    @validate("rows")
    def _check_rows(self, proposal: Any) -> int:
        return check_choice("rows", proposal.value, [rows for rows, _ in self.grids])

    @validate("position")
    def _check_position(self, proposal: Any) -> int:
        if not self.rows:  # before the grid is known
            return 0
        return check_index("position", proposal.value, self.count, "positions, prefix included")

    @validate("colours")
    def _check_colours(self, proposal: Any) -> str:
        return check_choice("colours", proposal.value, COLOURS)

    @observe("rows")
    def _stay_inside(self, change: Any) -> None:
        if change.old and self.position >= self.count:
            self.position = len(self.prefix)


def _grids(own: tuple[int, int]) -> list[tuple[int, int]]:
    """The model's own grid, and others with 2 to 16 rows and about the same shape."""
    others = {rows: max(1, round(rows * own[1] / own[0])) for rows in _SIDES}
    small = {rows: columns for rows, columns in others.items() if rows * columns <= _MAX_POSITIONS}
    return sorted((small | dict([own])).items())


def _compress_vectors(pos_embed: Tensor) -> bytes:
    """Vectors (prefix + N, R) with the same dot products as the given (prefix + N, D), R <= D.

    If Eᵀ = QR, then E Eᵀ = RᵀR. Resampling is linear, so Rᵀ can take the place of E there, too.
    """
    vectors = pos_embed.detach().cpu().double()[0]
    if not vectors.isfinite().all():
        raise ValueError("the model's pos_embed holds values that are not finite (NaN or infinity)")
    return torch.linalg.qr(vectors.T, mode="r").R.T.float().contiguous().numpy().tobytes()


def _resampling_matrix(old: int, new: int, antialias: bool) -> bytes:
    """The matrix (new, old) that resamples `old` positions in a line to `new` ones."""
    line = resample_pos_embed(torch.eye(old)[None], (new, 1), (old, 1), 0, antialias)
    return line[0].contiguous().numpy().tobytes()
