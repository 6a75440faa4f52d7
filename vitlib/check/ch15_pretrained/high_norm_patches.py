"""15.2 high_norm_patches: which patch tokens are much longer than the others."""

import torch

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import draw, returns


def high_norm_patches(tokens, num_prefix_tokens, factor):
    norms = tokens[:, num_prefix_tokens:].norm(dim=-1)  # (B, N)
    usual = norms.median(dim=-1, keepdim=True).values
    return norms > factor * usual


def by_sorting(tokens, num_prefix_tokens, factor):
    patches = tokens[:, num_prefix_tokens:]
    norms = (patches * patches).sum(dim=-1).sqrt()
    middle = norms.sort(dim=1).values[:, norms.shape[1] // 2]
    return (norms / middle[:, None]).gt(factor)


def by_quantile(tokens, num_prefix_tokens, factor):
    norms = torch.linalg.vector_norm(tokens, dim=-1)[:, num_prefix_tokens:]
    return torch.stack([row > factor * row.quantile(0.5) for row in norms])


def cases(answer) -> Cases:
    def drawn(images, tokens, width, seed=0, sizes=(1.0, 7.0, 0.3)):
        lengths = numbers(images, tokens, 1, seed=seed + 1).exp()
        each = torch.tensor(sizes[:images], dtype=torch.float64)[:, None, None]
        return numbers(images, tokens, width, seed=seed) * lengths * each

    yield "3 images, a class token and 9 patches", lambda: call(answer, drawn(3, 10, 4), 1, 1.5)
    yield (
        "2 images, a class token, 4 registers and 7 patches",
        lambda: call(answer, drawn(2, 12, 3, seed=5), 5, 1.2),
    )
    yield "no prefix token", lambda: call(answer, drawn(2, 5, 6, seed=9), 0, 1.1)
    huge = drawn(2, 8, 4, seed=14)
    huge[:, 0] *= 100
    yield "a class token longer than all patches", lambda: call(answer, huge, 1, 1.3)
    steps = torch.tensor([[5.0, 1.0, 2.0, 2.0, 4.0, 3.0]], dtype=torch.float64)[..., None]
    yield "norms 1, 2, 2, 4 and 3, and a factor of 2", lambda: call(answer, steps, 1, 2.0)
    yield "a factor below 1", lambda: call(answer, drawn(3, 8, 5, seed=20), 1, 0.8)


MUTANTS = edits(high_norm_patches, """
prefix_kept: norms = tokens[:, num_prefix_tokens:] → norms = tokens
    The prefix tokens are still there. The question is about patches: drop the first
    num_prefix_tokens.
class_token_only: num_prefix_tokens: → 1:
    One token is dropped, however many stand before the patches. With registers, these are taken for
    patches. Drop num_prefix_tokens.
last_dropped: num_prefix_tokens: → : tokens.shape[1] - num_prefix_tokens
    The last tokens are dropped. The prefix tokens stand first.
usual_of_all_tokens: usual = norms.median → usual = tokens.norm(dim=-1).median
    The median is that of all tokens, the prefix tokens among them. The usual length is that of the
    patches.
median_of_all_images: norms.median(dim=-1, keepdim=True).values → norms.median()
    One median is taken over all images. An image whose tokens are all long would be marked
    throughout: each image has its own median, dim=-1.
median_per_place: norms.median(dim=-1, keepdim=True) → norms.median(dim=0, keepdim=True)
    The median runs over the images, for each place. It should run over the patches of one image:
    dim=-1.
mean: norms.median(dim=-1, keepdim=True).values → norms.mean(dim=-1, keepdim=True)
    The mean is taken for the usual length. A few very long tokens pull it up, and may hide
    themselves by it; the median does not move.
largest: norms.median(dim=-1, keepdim=True).values → norms.amax(dim=-1, keepdim=True)
    The largest norm is taken for the usual one. Take the median.
smallest: norms.median(dim=-1, keepdim=True).values → norms.amin(dim=-1, keepdim=True)
    The smallest norm is taken for the usual one. Take the median.
squares: .norm(dim=-1)  # (B, N) → .square().sum(dim=-1)
    These are squares of the norms: twice as long counts as four times. Take the root.
sums: .norm(dim=-1)  # (B, N) → .abs().sum(dim=-1)
    The numbers of a token are added up without their signs, and that is another norm. The length is
    the root of the sum of squares.
plain_sums: .norm(dim=-1)  # (B, N) → .sum(dim=-1)
    The numbers of a token are added up, so that plus and minus cancel. The length is the root of
    the sum of squares: norm(dim=-1).
largest_channel: .norm(dim=-1)  # (B, N) → .abs().amax(dim=-1)
    Each token's largest number stands for its length. The length is the root of the sum of squares.
norm_over_tokens: .norm(dim=-1)  # (B, N) → .norm(dim=1)
    The norm runs over the tokens, so that one number per channel is left. It runs over the
    channels, the last axis.
short_ones: norms > → norms <
    The short tokens are marked. Those are meant whose norm is *more* than `factor` times the
    median.
equal_ones: norms > → norms >=
    A norm of exactly `factor` times the median counts here. Asked for is more than that: >.
difference: factor * usual → factor + usual
    `factor` is added to the median. It says how many *times* the median.
factor_ignored: factor * usual → usual
    `factor` is not used: half of all patches are longer than the median. Multiply it by `factor`.
factor_on_the_norms: norms > factor * usual → factor * norms > usual
    `factor` stands on the wrong side: here a token is marked if it is longer than the median
    *divided* by it.
numbers_of_patches: norms > factor * usual → (norms > factor * usual).nonzero()
    Places came back. A mask is wanted, (B, N), true where a patch is long.
how_many: norms > factor * usual → (norms > factor * usual).sum(dim=-1)
    A number per image came back. A mask is wanted, (B, N), true where a patch is long.
norms_kept: norms > factor * usual → norms * (norms > factor * usual)
    Norms came back, and 0 for the others. A mask is wanted, true or false.
as_numbers: norms > factor * usual → (norms > factor * usual).to(tokens.dtype)
    The mask holds ones and zeros. Leave it true or false: only then does it pick patches out.
ratios: norms > factor * usual → norms / usual
    The ratios came back. Compare them with `factor`.
""")  # fmt: skip


def probe(answer):
    def drawn(*shape, seed):
        return draw(*shape, seed=seed) * draw(*shape[:2], 1, seed=seed + 1).exp()

    exact = torch.tensor([[9.0, 3.0, 1.0, 1.0, 1.0, 2.0, 3.0, 0.5]])[..., None]
    wide = drawn(4, 7, 5, seed=3) * torch.tensor([9.0, 1.0, 0.2, 3.0])[:, None, None]
    return [
        returns(answer, wide, 2, 1.3),
        returns(answer, drawn(2, 9, 3, seed=8), 0, 1.6),
        returns(answer, drawn(3, 10, 6, seed=30), 5, 0.9),
        returns(answer, exact, 1, 3.0),
    ]


EXERCISE = Exercise(
    name="high_norm_patches",
    chapter="15_pretrained",
    task="high_norm_patches(tokens, num_prefix_tokens, factor): (B, T, D) -> (B, N), true for each "
    "patch whose norm is more than `factor` times the median norm of the patches of its image",
    reference=high_norm_patches,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_sorting, by_quantile],
    probe=probe,
)
