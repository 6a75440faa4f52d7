"""10.6 token_cosine: how alike the two tokens are, by depth."""

from functools import partial

import torch
import torch.nn.functional as F
from einops import einsum, rearrange

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call, numbers, single
from vitlib.check.probing import draw, in_single


def token_cosine(tokens_by_depth):
    pairs = [(x[:, 0], x[:, 1]) for x in tokens_by_depth]  # (B, D) each
    return torch.stack([F.cosine_similarity(a, b, dim=-1).mean() for a, b in pairs])


def at_once(tokens_by_depth):
    stacked = torch.stack(list(tokens_by_depth))[:, :, :2]  # (L, B, 2, D)
    unit = F.normalize(stacked, dim=-1)
    return (unit[:, :, 0] * unit[:, :, 1]).sum(dim=-1).mean(dim=1)


def by_loop(tokens_by_depth):
    result = []
    for tokens in tokens_by_depth:
        total = 0.0
        for image in tokens:
            a, b = image[0], image[1]
            total += (a @ b / (a.norm() * b.norm())).item()
        result.append(total / len(tokens))
    return torch.tensor(result)


def by_einsum(tokens_by_depth):
    tokens = rearrange(list(tokens_by_depth), "l b t d -> l b t d")
    a, b = tokens[:, :, 0], tokens[:, :, 1]
    dots = einsum(a, b, "l b d, l b d -> l b")
    lengths = einsum(a, a, "l b d, l b d -> l b") * einsum(b, b, "l b d, l b d -> l b")
    return (dots / lengths.sqrt()).mean(1)


def cases(answer) -> Cases:
    def depths(count, images, patches, dim, seed=0):
        longer = torch.arange(1.0, images + 1).double()[:, None, None]  # so that norms differ
        made = [numbers(images, 2 + patches, dim, seed=seed + i) for i in range(count)]
        return [longer * tokens + 0.4 for tokens in made]

    def run(tokens_by_depth):
        given = [tokens.clone() for tokens in tokens_by_depth]
        result = call(answer, given)
        if not all(map(torch.equal, given, tokens_by_depth)):
            raise Refused("your code changes the tensors that it is given: divide into new ones")
        return single(result)

    right, up, patch = [3.0, 0.0], [0.0, 2.0], [1.0, 1.0]
    toy = [[[right, up, patch]], [[right, [1.0, 1.0], patch]], [[right, [-1.0, 0.0], patch]]]
    yield (
        "one image at 3 depths: a right angle, 45° and opposite",
        (lambda: run([torch.tensor(x, dtype=torch.float64) for x in toy])),
    )
    yield "4 depths, 3 images, 5 patches, D = 6", lambda: run(depths(4, 3, 5, 6))
    yield "2 depths, 2 images, 2 patches, D = 2", lambda: run(depths(2, 2, 2, 2, seed=5))
    yield "one depth, 4 images", lambda: run(depths(1, 4, 1, 3, seed=8))


MUTANTS = edits(token_cosine, """
dot_product: F.cosine_similarity(a, b, dim=-1) → (a * b).sum(dim=-1)
    These are dot products. They grow with the length of the tokens, which grows with depth whether
    the tokens are alike or not. Divide by both lengths.
of_the_mean_tokens: (a, b, → (a.mean(dim=0), b.mean(dim=0),
    The tokens are averaged over the images first, and the cosine is taken of the averages. What
    differs from image to image is gone then, and the two look more alike than they are. Cosine
    first, for each image; then the mean.
all_pairs: (a, b, → (a[:, None], b,
    Every class token is compared with the distillation tokens of all images. Only the pairs of the
    same image are meant: the diagonal of your table.
flattened: (a, b, → (a.flatten(), b.flatten(),
    All images are laid out in one long vector before the cosine is taken, so that images with long
    tokens count for more. One cosine for each image, then the mean.
along_the_batch: dim=-1 → dim=0
    The cosine runs along the images, one for each channel. It belongs to the channels, the last
    axis: dim=-1 gives one for each image.
divided_along_the_tokens: in tokens_by_depth → in map(F.normalize, tokens_by_depth)
and: F.cosine_similarity(a, b, dim=-1) → (a * b).sum(dim=-1)
    The lengths are taken along the tokens, channel by channel: `F.normalize(x)` runs along axis 1
    if it is not told otherwise, and in (B, 2 + N, D) those are the tokens. dim=-1 is the axis of
    the channels.
first_image: x[:, 0], x[:, 1] → x[0, 0], x[0, 1]
    Only the first image of each tensor counts. `x[:, 0]` is the class token of every image, `x[0]`
    the first image with all of its tokens.
first_patch: x[:, 1] → x[:, 2]
    The class token is compared with the first patch, at index 2. The distillation token is at index
    1.
last_token: x[:, 1] → x[:, -1]
    The class token is compared with the last patch. The distillation token stands second, at index
    1.
from_one_on: x[:, 0], x[:, 1] → x[:, 1], x[:, 2]
    The distillation token is compared with the first patch: indices 1 and 2. They start at 0: class
    token 0, distillation token 1.
centred: (a, b, → (a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True),
    The mean over the channels is subtracted first: that is a correlation. A cosine takes the tokens
    as they are.
absolute: .mean() → .abs().mean()
    The sign is lost. Tokens that point in opposite directions have the cosine −1.
distance: F.cosine_similarity → 1 - F.cosine_similarity
    This is 1 minus the cosine, a distance. Equal directions should give 1.
along_the_token: x[:, 0], x[:, 1] → x[:, :1], x[:, 1:2]
and: dim=-1 → dim=1
    The cosine runs along axis 1, the default, and slices such as x[:, :1] are (B, 1, D): along that
    axis there is one number, and its cosine is ±1. Give dim=-1, the channels.
first_two_images: x[:, 0], x[:, 1] → x[0], x[1]
    x[0] and x[1] are the first two *images*. Class and distillation token of every image are x[:,
    0] and x[:, 1].
angle: F.cosine_similarity(a, b, dim=-1) → F.cosine_similarity(a, b, dim=-1).acos()
    This is the angle. Its cosine is asked for: leave out acos.
sum_over_images: .mean() → .sum()
    The cosines of the images are added up. Take their mean.
median: .mean() → .median()
    This is the median over the images. Take the mean.
mean_of_the_patches: x[:, 1] → x[:, 2:].mean(dim=1)
    The class token is compared with the mean of the patches. The distillation token is at index 1.
with_itself: x[:, 1] → x[:, 0]
    The class token is compared with itself. The distillation token is at index 1.
length_of_the_difference: F.cosine_similarity(a, b, dim=-1) → (a - b).norm(dim=-1)
    This is the distance between the two tokens. The cosine compares directions only: dot product,
    divided by both lengths.
no_mean: .mean() →
    A number for each depth *and* image comes back. Take the mean over the images.
""") | edits(at_once, """
one_length: unit[:, :, 0] → stacked[:, :, 0]
    Only the distillation token is divided by its length. A cosine lies between −1 and 1: divide by
    both lengths.
one_length_of_the_class_token: unit[:, :, 1] → stacked[:, :, 1]
    Only the class token is divided by its length. A cosine lies between −1 and 1: divide by both
    lengths.
mean_over_depths: .mean(dim=1) → .mean(dim=0)
    The mean is taken over the depths, and one number for each image comes back. Average over the
    images: one for each depth.
one_number: .mean(dim=1) → .mean()
    One number comes back. How it changes with depth is the point: one for each tensor of the list.
last_depth_only: .mean(dim=1) → .mean(dim=1)[-1:]
    Only the last depth comes back. One number for each tensor of the list is wanted.
last_depth_only_as_a_number: .mean(dim=1) → .mean(dim=1)[-1]
    Only the last depth comes back. One number for each tensor of the list is wanted.
mean_over_channels: .sum(dim=-1).mean(dim=1) → .mean(dim=(1, 2))
    The products are averaged over the channels. A dot product is their sum: sum over the channels,
    mean over the images.
first_depth_last: .mean(dim=1) → .mean(dim=1).flip(0)
    The depths run backwards. Keep the order of the list.
""") | edits(by_einsum, """
sums_first: (dots / lengths.sqrt()).mean(1) → dots.sum(1) / lengths.sqrt().sum(1)
    Dot products and lengths are summed over the images before the division, so that images with
    long tokens count for more. Divide for each image, then take the mean.
means_first: (dots / lengths.sqrt()).mean(1) →
→ dots.mean(1) / (a.norm(dim=-1).mean(1) * b.norm(dim=-1).mean(1))
    Dot products and lengths are averaged over the images, each for itself, before the division.
    Divide for each image, then take the mean.
length_of_the_batch: (dots / lengths.sqrt()).mean(1) →
→ dots.mean(1) / (a.norm(dim=(1, 2)) * b.norm(dim=(1, 2)))
    norm() without an axis takes the length of all images together. Each token has its own:
    norm(dim=-1).
no_root: lengths.sqrt() → lengths
    The dot product is divided by the product of the *squared* lengths. The root is missing.
""")  # fmt: skip


def probe(answer):
    def run(L, B, N, D):
        return answer([(1 + i) * draw(B, 2 + N, D, seed=i) + 0.3 for i in range(L)])

    return [in_single(partial(run, *g)) for g in [(3, 4, 2, 5), (4, 2, 1, 3), (1, 3, 3, 2)]]


EXERCISE = Exercise(
    name="token_cosine",
    chapter="10_distillation",
    task="token_cosine(tokens_by_depth) -> a tensor (L,): from a list of L tensors (B, 2 + N, D), "
    "for each the cosine between class token and distillation token of the same image, averaged "
    "over the images",
    reference=token_cosine,
    cases=cases,
    mutants=MUTANTS,
    accepted=[at_once, by_loop, by_einsum],
    probe=probe,
)
