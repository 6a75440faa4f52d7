"""12.5 pointing_lift: how many times better than by chance."""

import torch
import torch.nn.functional as F
from einops import reduce, repeat

from vitlib.check.ch12_attention_maps._single import single
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import draw, in_single, returns


def pointing_lift(maps, masks):
    patch = masks.shape[1] // maps.shape[1]
    masks = masks.to(maps.dtype)
    part = F.avg_pool2d(masks, patch)  # (B, h, w): how much of each cell lies on the mask
    on = (maps * part).sum(dim=(1, 2))
    total = maps.sum(dim=(1, 2))
    area = masks.mean(dim=(1, 2))
    return on / total / area


def enlarged(maps, masks):
    patch = masks.shape[1] // maps.shape[1]
    fine = maps.repeat_interleave(patch, 1).repeat_interleave(patch, 2)
    share = (fine * masks).sum(dim=(1, 2)) / fine.sum(dim=(1, 2))
    return share / masks.to(maps.dtype).mean(dim=(1, 2))


def means_of_pixels(maps, masks):
    p, q = masks.shape[1] // maps.shape[1], masks.shape[2] // maps.shape[2]
    pixels = repeat(maps, "b h w -> b (h p) (w q)", p=p, q=q)
    lifts = [m[mask].mean() / m.mean() for m, mask in zip(pixels, masks, strict=True)]
    return torch.stack(lifts)


def by_einops(maps, masks):
    h = maps.shape[1]
    part = reduce(masks.to(maps.dtype), "b (h p) (w q) -> b h w", "mean", h=h, w=maps.shape[2])
    share = (maps / reduce(maps, "b h w -> b 1 1", "sum") * part).sum(dim=(1, 2))
    return share * masks[0].numel() / masks.sum(dim=(1, 2))


def cases(answer) -> Cases:
    def run(maps, masks):
        return single(call(answer, maps, masks))

    def masks(*shape, seed=0):
        return numbers(*shape, seed=seed) > 0.4

    even = torch.full((2, 2, 3), 0.3, dtype=torch.float64)
    yield "a map that is the same everywhere", lambda: run(even, masks(2, 4, 6))
    whole = torch.zeros(1, 4, 4, dtype=torch.bool)
    whole[0, :2, 2:] = True
    corner = torch.tensor([[[1.0, 6.0], [1.0, 0.0]]], dtype=torch.float64)
    yield "three quarters of a map on a quarter of the image", lambda: run(corner, whole)
    yield (
        "3 images of 6 × 9 pixels, maps of 2 × 3, not scaled",
        lambda: run(2 * numbers(3, 2, 3, seed=2).exp(), masks(3, 6, 9, seed=3)),
    )
    fine = numbers(2, 3, 4, seed=4).abs()
    yield "maps as fine as the image", lambda: run(fine, masks(2, 3, 4, seed=5))


MUTANTS = edits(pointing_lift, """
not_divided_by_the_area: / area →
    This is the share of the map that lies on the mask. A mask that covers half of the image gets
    half of any map, by chance: divide by the share of the image that the mask covers.
not_a_share: / total →
    The map is not divided by its own sum, so that a map with larger numbers wins. What counts is
    the share of the map that lies on the mask.
one_for_all: on / total / area → (on.mean() / total.mean() / area.mean()).expand(len(maps))
    All images are thrown together, and the maps with large numbers count for more. Each image has
    its own share and its own area: keep the axis of the images.
inside_over_outside: return on / total / area → return on / (maps * (1 - part)).sum(dim=(1, 2))
    What lies on the mask is divided by what lies beside it. Asked for is the share of the whole
    map, divided by the share of the image that the mask covers.
area_of_all_masks: area = masks.mean(dim=(1, 2)) → area = masks.mean()
    The area is that of all masks together. Each image has its own: mean(dim=(1, 2)).
sum_of_all_maps: total = maps.sum(dim=(1, 2)) → total = maps.sum()
    The sum runs over all maps of the batch. Each image has its own: sum(dim=(1, 2)).
multiplied_by_the_area: / area → * area
    The share of the map is multiplied by the share of the area. How many *times* as much as by
    chance: divide.
turned_over: on / total / area → area / (on / total)
    The fraction is upside down: the share of the map stands above, the share of the area below.
beside_the_object: masks = masks.to(maps.dtype) → masks = (~masks).to(maps.dtype)
    This is the lift of what is *not* the object: the mask is true on the object.
area_in_pixels: masks.mean(dim=(1, 2)) → masks.sum(dim=(1, 2))
    The area is a number of pixels. The *share* of the image is wanted: divide by H · W, or take the
    mean of the mask.
one_mean: return on / total / area → return (on / total / area).mean()
    One number came back. Each image has its own, (B,): leave out the mean over the images.
mean_on_the_mask: return on / total / area → return on / part.sum(dim=(1, 2))
    This is the mean of the map on the mask. How large it is depends on how the map is scaled:
    divide by the mean of the whole map, which comes to the same as share by share.
largest_cell: return on / total / area →
→ return part.flatten(1).gather(1, maps.flatten(1).argmax(1)[:, None])[:, 0] / area
    Only the largest cell of each map is looked at. Here all of the map counts: how much of it lies
    on the mask.
softmax_of_the_map: on = → maps = maps.flatten(1).softmax(dim=1).view_as(maps)
→ on =
    The map goes through a softmax, which changes its shares. It is positive already: divide it by
    its sum.
divided_by_the_other_area: / area → / (1 - area)
    You divide by the share of the image that is *not* on the mask.
logarithm: return on / total / area → return (on / total / area).log()
    This is the logarithm of the lift. A map that is the same everywhere should get 1, and not 0.
divided_by_the_largest: total = maps.sum(dim=(1, 2)) → total = maps.amax(dim=(1, 2))
    The map is divided by its largest number. A share is a part of the whole: divide by the sum.
a_difference: / area → - area
    The share of the area is subtracted. The question is how many *times* as much the mask gets as
    by chance: divide.
one_pixel_of_each_cell: F.avg_pool2d(masks, patch) → masks[:, ::patch, ::patch]
    Of each cell only one pixel of the mask is looked at. The cell's value is spread over all of its
    pixels: take the mean of the mask in it.
any_pixel: avg_pool2d → max_pool2d
    A cell counts fully as soon as one of its pixels is on the mask. Coarse cells then get credit
    for what lies beside the object. A cell's value is spread over its pixels: take the mean of the
    mask in it.
one_pixel_of_each_cell_twice: F.avg_pool2d(masks, patch) → masks[:, ::patch, ::patch]
and: area = masks.mean(dim=(1, 2)) → area = part.mean(dim=(1, 2))
    Of each cell only one pixel of the mask is looked at, as interpolate(mode="nearest") does it.
    The cell's value is spread over all of its pixels: take the mean of the mask in it.
any_pixel_twice: avg_pool2d → max_pool2d
and: area = masks.mean(dim=(1, 2)) → area = part.mean(dim=(1, 2))
    A cell counts fully as soon as one of its pixels is on the mask, for the map and for the area.
    Coarse cells then get credit for what lies beside the object. Take the mean of the mask in each
    cell.
more_than_half_twice: F.avg_pool2d(masks, patch) → (F.avg_pool2d(masks, patch) > 0.5).to(maps.dtype)
and: area = masks.mean(dim=(1, 2)) → area = part.mean(dim=(1, 2))
    A cell counts only if more than half of it is on the mask, and then fully, for the map and for
    the area. Take the mean of the mask in each cell.
more_than_half: F.avg_pool2d(masks, patch) → F.avg_pool2d(masks, patch) > 0.5
    A cell counts only if more than half of it is on the mask, and then fully. Its value is spread
    over its pixels: take the mean of the mask in it.
""") | edits(enlarged, """
tiled: maps.repeat_interleave(patch, 1).repeat_interleave(patch, 2) → maps.repeat(1, patch, patch)
    `repeat` lays copies of the whole map side by side. To enlarge it, each cell must become a
    square: repeat_interleave, along both axes.
pixels_by_cells: fine.sum → maps.sum
    A sum over pixels is divided by a sum over cells: the result is too large by the number of
    pixels in a cell. Take both sums over the enlarged map, or both over cells.
smoothed: maps.repeat_interleave(patch, 1).repeat_interleave(patch, 2) →
→ F.interpolate(maps[:, None], scale_factor=patch, mode="bilinear")[:, 0]
    The map is enlarged with smooth transitions. That looks nicer, and moves a part of each cell's
    value into its neighbours. Repeat each value over its square, or take the mean of the mask in
    each cell.
""") | edits(means_of_pixels, """
divided_by_the_rest: m.mean() → m[~mask].mean()
    The mean on the mask is divided by the mean *beside* it. That is another number, and it is
    infinite if all of the map lies on the mask. Divide the share of the map by the share of the
    image.
""")  # fmt: skip


def probe(answer):
    def given(maps, pixels, seed):
        return draw(*maps, seed=seed).exp() * (1 + seed), draw(*pixels, seed=seed + 9) > 0.3

    cases = [given((4, 3, 2), (4, 9, 6), 0), given((2, 2, 4), (2, 4, 8), 1)]
    cases += [given((1, 3, 3), (1, 3, 3), 2), given((3, 1, 2), (3, 5, 10), 3)]
    return [in_single(returns(answer, *g)) for g in cases]


EXERCISE = Exercise(
    name="pointing_lift",
    chapter="12_attention_maps",
    task="pointing_lift(maps, masks) -> (B,): the share of each map (B, h, w) that lies on the "
    "mask (B, H, W), divided by the share of the image that the mask covers; each cell is a "
    "square of pixels, over which its value is spread evenly",
    reference=pointing_lift,
    cases=cases,
    mutants=MUTANTS,
    accepted=[enlarged, means_of_pixels, by_einops],
    probe=probe,
)
