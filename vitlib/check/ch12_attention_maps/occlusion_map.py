"""12.4 occlusion_map: cover, and ask again."""

import math

import torch
import torch.nn.functional as F

from vitlib.check.ch12_attention_maps._single import single
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call, numbers
from vitlib.check.probing import changes, draw, in_single, returns


def occlusion_map(predict, image, patch, fill):
    def log_p(x):
        return predict(x[None])[0].log_softmax(dim=-1)

    _, H, W = image.shape
    before = log_p(image)
    k = before.argmax()
    drops = torch.zeros(H // patch, W // patch, dtype=image.dtype)
    for i in range(H // patch):
        for j in range(W // patch):
            covered = image.clone()
            top, left = i * patch, j * patch
            covered[:, top : top + patch, left : left + patch] = fill
            drops[i, j] = before[k] - log_p(covered)[k]
    return drops


def all_at_once(predict, image, patch, fill):
    H, W = (side // patch for side in image.shape[1:])
    masks = torch.eye(H * W, dtype=torch.bool).reshape(-1, H, W)
    masks = masks.repeat_interleave(patch, 1).repeat_interleave(patch, 2)  # (n, height, width)
    covered = torch.where(masks[:, None], torch.full_like(image, fill), image)
    logits = predict(torch.cat([image[None], covered]))
    losses = F.cross_entropy(logits, logits[:1].argmax(1).expand(len(logits)), reduction="none")
    return (losses[1:] - losses[0]).reshape(H, W)


def in_a_batch(predict, image, patch, fill):
    views = [image]
    for top in range(0, image.shape[1], patch):
        for left in range(0, image.shape[2], patch):
            covered = image.clone()
            covered[:, top : top + patch, left : left + patch] = fill
            views.append(covered)
    log_p = predict(torch.stack(views)).log_softmax(dim=1)
    falls = log_p[0].max() - log_p[1:, log_p[0].argmax()]
    return falls.view(image.shape[1] // patch, -1)


def ratios_of_probabilities(predict, image, patch, fill):
    p = predict(image[None]).softmax(-1)[0]
    k = int(p.argmax())
    rows = []
    for top in range(0, image.shape[1], patch):
        row = []
        for left in range(0, image.shape[2], patch):
            y, x = torch.arange(image.shape[1])[:, None], torch.arange(image.shape[2])
            inside = (y >= top) & (y < top + patch) & (x >= left) & (x < left + patch)
            row.append(p[k] / predict(image.masked_fill(inside, fill)[None]).softmax(-1)[0, k])
        rows.append(torch.stack(row).log())
    return torch.stack(rows)


def cases(answer) -> Cases:
    def predictor(C, H, W, K, seed):
        first, second = numbers(C * H * W, 8, seed=seed), numbers(8, K, seed=seed + 1)

        def predict(images):
            if images.shape[1:] != (C, H, W):
                raise Refused(
                    f"predict wants images (n, {C}, {H}, {W}), with an axis for the images in "
                    f"front, and got {tuple(images.shape)}"
                )
            return (images.flatten(1) @ first * 0.6).tanh() @ second

        return predict

    def run(C, H, W, K, patch, fill, seed=0):
        predict = predictor(C, H, W, K, seed)
        return single(call(answer, predict, numbers(C, H, W, seed=seed + 2), patch, fill))

    yield "2 channels, 6 × 9 pixels, squares of 3, covered with 0", lambda: run(2, 6, 9, 4, 3, 0.0)
    yield (
        "1 channel, 8 × 4 pixels, squares of 2, covered with −0.7",
        lambda: run(1, 8, 4, 5, 2, -0.7, seed=5),
    )
    yield "squares of 1, covered with 1.5", lambda: run(1, 2, 3, 3, 1, 1.5, seed=9)
    yield "one square as large as the image", lambda: run(3, 4, 4, 3, 4, -1.0, seed=13)


MUTANTS = edits(occlusion_map, """
sign: before[k] - log_p(covered)[k] → log_p(covered)[k] - before[k]
    The sign is turned round: after minus before. A patch that spoke for the answer should get a
    positive number, which is before minus after.
probabilities: log_softmax → softmax
    These are differences of probabilities. Near 1 they hardly move, however much the model has been
    shaken: 0.9999 and 0.99 differ by 0.01, their odds by a factor of a hundred. Take the logarithm:
    log_softmax.
logits: .log_softmax(dim=-1) →
    These are differences of logits. A logit by itself says nothing: if all of them fall by 1, the
    answer is the same. log_softmax compares each with the others.
class_chosen_anew: log_p(covered)[k] → log_p(covered).max()
    For each covered image you take the class that is predicted then. Where covering changes the
    answer, that is another class, and the drop looks small just where it is largest. Keep the class
    of the whole image.
cover_stays: covered = image.clone() →
and: k = before.argmax() → k, covered = before.argmax(), image.clone()
    The squares stay covered: the second is measured with the first still gone, and at the end the
    whole image is hidden. Begin with a fresh clone for each square.
fill_ignored: = fill → = 0.0
    The squares are covered with 0, whatever `fill` says. In normalised pixels 0 is the mean grey,
    and not black.
covered_with_the_mean: = fill → = image.mean()
    The squares are covered with the image's mean. What to cover with is a decision, and here the
    caller has taken it: `fill`.
all_but_the_square: image.clone() → torch.full_like(image, fill)
and: = fill → = image[:, top : top + patch, left : left + patch]
    All but the square is covered. That asks what the model can tell from one patch alone; here the
    question is what it misses without it.
one_channel: covered[:, → covered[0,
    Only the first channel is covered. The patch can still be seen in the others.
steps_of_one_pixel: i * patch, j * patch → i, j
    The squares move on by one pixel each time, and overlap. Square (i, j) begins at pixel (i ·
    patch, j · patch).
absolute: before[k] - log_p(covered)[k] → (before[k] - log_p(covered)[k]).abs()
    The sign is lost. A square may speak against the class, and then covering it raises the
    log-probability: such squares get a negative number.
only_falls: before[k] - log_p(covered)[k] → (before[k] - log_p(covered)[k]).clamp(min=0)
    Where the log-probability rises, you write 0. A square that speaks against the class gets a
    negative number.
nothing_to_compare_with: before[k] - log_p(covered)[k] → -log_p(covered)[k]
    Nothing is subtracted: these are −log p of the covered images. How far it *falls* is that of the
    whole image minus that of the covered one.
covered_only: before[k] - log_p(covered)[k] → log_p(covered)[k]
    These are the log-probabilities of the covered images. How far they *fall* is that of the whole
    image minus that of the covered one.
ratio: before[k] - log_p(covered)[k] → log_p(covered)[k] / before[k]
ratio_the_other_way: before[k] - log_p(covered)[k] → before[k] / log_p(covered)[k]
    Two logarithms are divided. How far the log-probability falls is a difference: before minus
    after.
rows_and_columns_of_pixels: covered[:, top : top + patch, left : left + patch] →
→ covered[:, left : left + patch, top : top + patch]
    Rows and columns have changed places where the square is covered. Row i of the result covers the
    pixels from i · patch downwards, and these are axis 1 of the image (C, H, W).
transposed: return drops → return drops.T
    The map is transposed: row i of the result belongs to the pixels from i · patch downwards.
one_pixel: top : top + patch, left : left + patch → top, left
    Only one pixel of each square is covered. A square goes from top to top + patch, in both
    directions.
class_zero: before.argmax() → 0
    This is class 0, whatever was predicted. Take the class with the largest logit of the whole
    image.
added: = fill → += fill
    `fill` is added to the square. Cover it: the pixels become `fill`.
one_pixel_short: top : top + patch, left : left + patch →
→ top : top + patch - 1, left : left + patch - 1
    The square is one pixel too small in both directions. A slice ends before its second number: top
    : top + patch has `patch` pixels already.
whole_rows: , left : left + patch →
    Whole rows are covered. A square has a left and a right end, too.
divided_by_the_largest: return drops → return drops / drops.max()
    The map is divided by its largest number. Return the falls as they are; whoever draws them may
    scale them.
least_likely_class: before.argmax() → before.argmin()
    You follow the class that the model thinks *least* likely. Take the one that it predicts:
    argmax.
in_a_row: return drops → return drops.flatten()
    The numbers stand in a row. They should lie as the squares do: (H/patch, W/patch).
class_of_the_covered_image: drops[i, j] = → k = log_p(covered).argmax()
→ drops[i, j] =
    For each covered image you follow the class that is predicted then. Keep the class of the whole
    image.
multiplied: = fill → *= fill
    The square is multiplied by `fill`. Cover it: the pixels become `fill`.
spread_over_pixels: return drops →
→ return drops.repeat_interleave(patch, 0).repeat_interleave(patch, 1)
    The map is as large as the image. One number for each square is asked for, (H/patch, W/patch).
base_two: before[k] - log_p(covered)[k] → (before[k] - log_p(covered)[k]) / math.log(2)
    The logarithm is one to the base 2. log_softmax takes the natural one.
turned: return drops → return drops.T.reshape(drops.shape)
    The drops are right, and lie in the wrong places: rows and columns have been mixed up. Row i of
    the result belongs to the pixels from i · patch downwards.
""") | edits(in_a_batch, """
softmax_over_the_images: log_softmax(dim=1) → log_softmax(dim=0)
    The softmax runs over the covered images, so that they compete with each other. It belongs to
    the classes, the second axis of the logits (n, K).
""")  # fmt: skip


def probe(answer):
    def predict(images):
        first = draw(math.prod(images.shape[1:]), 6, seed=3)
        return (images.flatten(1) @ first * 0.7).sin() @ draw(6, 5, seed=4)

    given = [(draw(1, 9, 6), 3, 0.4), (draw(3, 4, 8), 2, -1.2), (draw(2, 3, 5), 1, 0.0)]
    given += [(draw(2, 6, 12), 6, -0.3)]
    seen = [in_single(returns(answer, predict, *g)) for g in given]
    return [*seen, changes(answer, predict, *given[0])]


EXERCISE = Exercise(
    name="occlusion_map",
    chapter="12_attention_maps",
    task="occlusion_map(predict, image, patch, fill) -> (H/patch, W/patch): for each square, the "
    "log-probability of the class predicted for the whole image, minus that with the square "
    "covered by `fill`; predict maps (n, C, H, W) to logits (n, K), image is (C, H, W)",
    reference=occlusion_map,
    cases=cases,
    mutants=MUTANTS,
    accepted=[all_at_once, in_a_batch, ratios_of_probabilities],
    probe=probe,
)
