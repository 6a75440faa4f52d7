"""10.2 two_heads: what a distilled model answers."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call, fill, numbers
from vitlib.check.probing import draw


def two_heads(features, head, head_dist):
    logits, dist_logits = head(features[:, 0]), head_dist(features[:, 1])
    agree = logits.argmax(dim=-1) == dist_logits.argmax(dim=-1)
    return (logits + dist_logits) / 2, agree


def by_one_matrix(features, head, head_dist):
    weight = torch.cat([head.weight, head_dist.weight], dim=1) / 2  # (K, 2D)
    both = features[:, :2].flatten(1)  # (B, 2D): class token, distillation token
    logits = F.linear(both, weight, (head.bias + head_dist.bias) / 2)
    first, second = head(features[:, 0]), head_dist(features[:, 1])
    return logits, first.max(dim=-1).indices == second.max(dim=-1).indices


def stacked(features, head, head_dist):
    class_token, dist_token, *_ = features.unbind(dim=1)
    answers = torch.stack([head(class_token), head_dist(dist_token)])  # (2, B, K)
    named = answers.argmax(dim=2)
    return answers.mean(dim=0), named[0].eq(named[1])


def by_loop(features, head, head_dist):
    logits, agree = [], []
    for image in features:
        a, b = head(image[0]), head_dist(image[1])
        logits.append(0.5 * a + 0.5 * b)
        agree.append(int(a.argmax()) == int(b.argmax()))
    return torch.stack(logits), torch.tensor(agree)


def cases(answer) -> Cases:
    def run(images, patches, dim, classes, seed):
        head, head_dist = (fill(nn.Linear(dim, classes), seed=seed + i) for i in (1, 2))
        features = numbers(images, 2 + patches, dim, seed=seed)
        result = call(answer, features, head, head_dist)
        if isinstance(result, torch.Tensor):
            raise Refused("one tensor came back, and two should: the logits and the agreement")
        return result

    yield "7 images, 4 patches, D = 5, 3 classes", lambda: run(7, 4, 5, 3, 0)
    yield "4 images of one patch, 4 classes", lambda: run(4, 1, 7, 4, 4)
    yield "one image", lambda: run(1, 3, 6, 5, 8)


MUTANTS = edits(two_heads, """
sum: / 2 →
    The logits are added and not halved. The class that wins is the same, but every probability is
    too sure of itself: take the mean.
brackets: (logits + dist_logits) → logits + dist_logits
    Only the second head is halved, since / binds tighter than +. Put brackets around the sum.
first_head_halved: (logits + dist_logits) / 2 → logits / 2 + dist_logits
    Only the first head is halved. Put brackets around the sum.
larger_of_both: (logits + dist_logits) / 2 → torch.maximum(logits, dist_logits)
    Of each pair of logits you take the larger one. Take their mean.
side_by_side: (logits + dist_logits) / 2 → torch.cat([logits, dist_logits], dim=1)
side_by_side_on_a_new_axis: (logits + dist_logits) / 2 → torch.stack([logits, dist_logits])
    Both heads' logits came back. Their mean is asked for, (B, K).
patches_read: [:, 0] → [:, 2:].mean(dim=1)
and: [:, 1] → [:, 2:].mean(dim=1)
    The heads read the mean of the patches. `head` reads the class token, `features[:, 0]`, and
    `head_dist` the distillation token, `features[:, 1]`.
mean_of_probabilities: logits + dist_logits → logits.softmax(1) + dist_logits.softmax(1)
    This is the mean of the probabilities. The paper's text fuses the heads so; its published code,
    and this book, average the logits. The two need not even name the same class: a head that is
    very sure of itself counts for more among logits. Leave out the softmax.
mean_of_log_probabilities: logits + dist_logits → logits.log_softmax(1) + dist_logits.log_softmax(1)
    Each head goes through log_softmax before the mean. That moves all logits of an image by the
    same number, so that the winner stays; but these are no longer the logits. Leave out
    log_softmax.
probabilities_of_the_mean: (logits + dist_logits) / 2 → ((logits + dist_logits) / 2).softmax(dim=1)
    These are the probabilities of the mean. They are right, but the logits are asked for: the loss
    and whoever calls this take their own softmax. Leave it out.
mean_of_the_tokens: features[:, 0] → features[:, :2].mean(dim=1)
and: features[:, 1] → features[:, :2].mean(dim=1)
    The two tokens are averaged, and both heads read the average. Each head has learned to read its
    own token: let it, and average what the heads say.
mean_of_the_tokens_one_head: (logits + dist_logits) / 2 → head(features[:, :2].mean(dim=1))
    The two tokens are averaged, and one head reads the average. It has learned to read its own
    token only. Let each head read its own, and average what the heads say.
one_head_twice: head_dist( → head(
    `head` reads both tokens. The distillation token has a head of its own, `head_dist`.
heads_exchanged: head(features[:, 0]), head_dist( → head_dist(features[:, 0]), head(
    The heads have changed places: `head` belongs to token 0, the class token, and `head_dist` to
    token 1. The shapes cannot tell.
same_token: [:, 1] → [:, 0]
same_token_first_patch: [:, 1] → [:, 2]
same_token_at_the_end: [:, 1] → [:, -1]
same_token_from_one_on: [:, 1] → [:, 2]
and: [:, 0] → [:, 1]
    A head reads the wrong token. In `features` the class token is at index 0, the distillation
    token at index 1, and the patches follow: `head` reads `features[:, 0]`, `head_dist`
    `features[:, 1]`.
class_head_only: (logits + dist_logits) / 2 → logits
    These are the logits of the class head alone. In use both heads answer, and their mean counts.
distillation_head_only: (logits + dist_logits) / 2 → dist_logits
    These are the logits of the distillation head alone. In use both heads answer, and their mean
    counts.
first_images: [:, 0] → [0]
and: [:, 1] → [1]
    `features[0]` is the first *image*, with all of its tokens. The class token of every image is
    `features[:, 0]`.
all_tokens: [:, 0] →
and: [:, 1] →
    Every token is sent through the heads. Each head reads one: pick `features[:, 0]` and
    `features[:, 1]` first.
agrees_with_the_mean: == dist_logits → == (logits + dist_logits)
    The class head is compared with the mean, which is half its own doing. Compare the two heads
    with each other.
share_that_agrees: , agree → , agree.double().mean()
    The share of images on which the heads agree came back. One answer for each image is asked for,
    (B,): leave out the mean.
share_that_agrees_in_single: , agree → , agree.float().mean()
    The share of images on which the heads agree came back. One answer for each image is asked for,
    (B,): leave out the mean.
all_agree: , agree → , agree.all()
    One answer for all images came back: whether the heads agree on every one. One for each image is
    asked for, (B,): leave out all(), or torch.equal.
the_class_itself: , agree → , logits.argmax(dim=-1)
    The second result is the class that is named. Asked for is whether both heads name the same one,
    True or False.
agree_as_numbers: , agree → , agree.int()
agree_as_numbers_of_64_bits: , agree → , agree.long()
agree_as_numbers_with_a_point: , agree → , agree.float()
    The second result is made of numbers, and True or False is asked for. A comparison with == gives
    these by itself: leave out the conversion.
logits_compared: logits.argmax(dim=-1) == dist_logits.argmax(dim=-1) →
→ logits.amax(dim=-1) == dist_logits.amax(dim=-1)
    The logits themselves are compared, and two heads never give quite the same numbers. Compare the
    *classes* that they name: argmax.
disagree: == → !=
    The second result is upside down: it should be True where both heads name the same class.
swapped: (logits + dist_logits) / 2, agree → agree, (logits + dist_logits) / 2
    The two results have changed places: first the logits, then the agreement.
""") | edits(stacked, """
compared_along_the_batch: argmax(dim=2) → argmax(dim=1)
    argmax runs along the batch: it looks for the best image of each class. The classes are the
    second axis of the logits (B, K).
""")  # fmt: skip


def probe(answer):
    def run(B, N, D, K):
        heads = [nn.Linear(D, K).double() for _ in range(2)]
        with torch.no_grad():
            for i, p in enumerate(p for head in heads for p in head.parameters()):
                p.copy_(draw(*p.shape, seed=i))
            return list(answer(draw(B, 2 + N, D, seed=B), *heads))

    return [partial(run, *g) for g in [(7, 2, 4, 3), (5, 1, 6, 5), (9, 4, 3, 2), (1, 2, 3, 4)]]


EXERCISE = Exercise(
    name="two_heads",
    chapter="10_distillation",
    task="two_heads(features, head, head_dist) -> (logits (B, K), agree (B,)): of tokens "
    "(B, 2 + N, D), the mean of the logits that `head` reads off the class token and `head_dist` "
    "off the distillation token; and for each image whether both heads name the same class, "
    "True or False",
    reference=two_heads,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_one_matrix, stacked, by_loop],
    probe=probe,
)
