"""Chapter 10, distillation: the exercises, their right answers and their usual mistakes."""

from functools import partial

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from torch import nn

from vitlib.check.exercise import Cases, Exercise, Refused, call, fill, numbers
from vitlib.train import DistillationLoss


def _grad(tensor):
    """The gradient that has reached a tensor; zeros where none has."""
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


# --- 10.1 distilled_tokens: one more token, in the second place


def _insert(tokens, dist_token, pos_embed):
    class_token, patches = tokens[:, :1], tokens[:, 1:]
    dist_token = dist_token.expand(len(tokens), -1, -1)
    return torch.cat([class_token, dist_token, patches], dim=1) + pos_embed


def _insert_by_parts(tokens, dist_token, pos_embed):
    first = tokens[:, :1] + pos_embed[:, :1]
    second = (dist_token + pos_embed[:, 1:2]).repeat(tokens.shape[0], 1, 1)
    return torch.cat((first, second, tokens[:, 1:] + pos_embed[:, 2:]), 1)


def _insert_by_assignment(tokens, dist_token, pos_embed):
    B, T, D = tokens.shape
    joined = torch.empty(B, T + 1, D, dtype=tokens.dtype)
    joined[:, 0] = tokens[:, 0]
    joined[:, 1] = dist_token[:, 0]
    joined[:, 2:] = tokens[:, 1:]
    return joined + pos_embed


def _insert_by_loop(tokens, dist_token, pos_embed):
    images = [torch.vstack([image[0], dist_token[0, 0], image[1:]]) for image in tokens]
    return torch.stack([image + pos_embed[0] for image in images])


def _inserted_at(place):
    def distilled_tokens(tokens, dist_token, pos_embed):
        dist_token = dist_token.expand(len(tokens), -1, -1)
        return torch.cat([tokens[:, :place], dist_token, tokens[:, place:]], dim=1) + pos_embed

    return distilled_tokens


def _joined_at_the_end(tokens, dist_token, pos_embed):
    return torch.cat([tokens, dist_token.expand(len(tokens), -1, -1)], dim=1) + pos_embed


def _without_its_position(*places):
    """The other tokens get these positions, and the new token none."""

    def distilled_tokens(tokens, dist_token, pos_embed):
        N = tokens.shape[1] - 1
        first, rest = places
        positions = torch.cat(
            [pos_embed[:, first : first + 1], pos_embed[:, rest : rest + N]], dim=1
        )
        return _insert(tokens + positions, dist_token, torch.zeros_like(pos_embed))

    return distilled_tokens


def _insert_torn_off(tokens, dist_token, pos_embed):
    return _insert(tokens, dist_token.detach(), pos_embed.detach())


def _distilled_tokens_cases(answer) -> Cases:
    def parts(images, patches, dim):
        return (
            numbers(images, 1 + patches, dim, seed=1),
            numbers(1, 1, dim, seed=2),
            numbers(1, 2 + patches, dim, seed=3),
        )

    def gradients():
        given = [part.requires_grad_() for part in parts(3, 4, 5)]
        result = call(answer, *given)
        (result * numbers(*result.shape, seed=9)).sum().backward()
        names = ("tokens", "dist_token", "pos_embed")
        return {name: _grad(part) for name, part in zip(names, given, strict=True)}

    yield "3 images of 4 patches, D = 5", lambda: call(answer, *parts(3, 4, 5))
    yield "one image of 6 patches", lambda: call(answer, *parts(1, 6, 5))
    yield "2 images of one patch", lambda: call(answer, *parts(2, 1, 3))
    yield "the gradients that reach the three inputs", gradients


distilled_tokens = Exercise(
    name="distilled_tokens",
    chapter="10_distillation",
    task="distilled_tokens(tokens, dist_token, pos_embed) -> (B, 2 + N, D): from the tokens of a "
    "plain model (B, 1 + N, D), class token first, a distillation token (1, 1, D) and positions "
    "(1, 2 + N, D); class, distillation, patches, in this order, each with its position",
    reference=_insert,
    cases=_distilled_tokens_cases,
    mutants={
        "at_the_end": (
            _joined_at_the_end,
            "The distillation token stands at the end. So the paper draws it, but its published "
            "weights have it second: here every patch gets the position of its neighbour, and a "
            "head that reads token 1 reads a patch. Cut `tokens` behind the class token, and put "
            "the new one in between.",
        ),
        "at_the_front": (
            _inserted_at(0),
            "The distillation token stands in front of the class token, so the two have changed "
            "their positions, and the class head reads the wrong one. The order is class, "
            "distillation, patches.",
        ),
        "behind_the_first_patch": (
            _inserted_at(2),
            "The distillation token stands behind the first patch, one place too far. The class "
            "token alone is `tokens[:, :1]`; all the patches are `tokens[:, 1:]`.",
        ),
        "without_position": (
            _without_its_position(0, 2),
            "The distillation token gets no position; the others have theirs. Row 1 of "
            "pos_embed is for it. Join first, then add all of pos_embed.",
        ),
        "positions_before_joining": (
            _without_its_position(0, 1),
            "The first 1 + N positions are added before the new token is in: so it gets none, and "
            "each patch has the position of the one before it. Join first, then add all of "
            "pos_embed.",
        ),
        "positions_from_the_end": (
            _without_its_position(1, 2),
            "The last 1 + N positions are added before the new token is in: so it gets none, and "
            "the class token has the position that was meant for it. Join first, then add all of "
            "pos_embed.",
        ),
        "no_positions": (
            lambda tokens, dist_token, pos_embed: _insert(tokens, dist_token, 0 * pos_embed),
            "The tokens stand in the right order, but no position is added. A model that gets "
            "these cannot tell one order of the patches from another.",
        ),
        "not_expanded": (
            lambda tokens, dist_token, pos_embed: (
                torch.cat([tokens[:, :1], dist_token, tokens[:, 1:]], dim=1) + pos_embed
            ),
            "There is one distillation token, and torch.cat wants one for every image. Expand it "
            "to the batch first: dist_token.expand(B, -1, -1).",
        ),
        "torn_off": (
            _insert_torn_off,
            "The numbers are right, but the distillation token and the positions get no gradient, "
            "so they would stay as they began. Look for .data, .detach(), torch.no_grad() or "
            "torch.tensor(...).",
        ),
    },
    accepted=[_insert_by_parts, _insert_by_assignment, _insert_by_loop, _inserted_at(1)],
)

# --- 10.2 two_heads: what a distilled model answers


def _heads(classify=lambda h, d: (h + d) / 2, read=(0, 1), agree=lambda own, mean: own):
    """The mean of the heads and whether they agree, with something changed about either."""

    def two_heads(features, head, head_dist):
        logits, dist_logits = head(features[:, read[0]]), head_dist(features[:, read[1]])
        answer = classify(logits, dist_logits)
        own = logits.argmax(dim=1) == dist_logits.argmax(dim=1)
        return answer, agree(own, logits.argmax(dim=1) == answer.argmax(dim=1))

    return two_heads


def _heads_by_one_matrix(features, head, head_dist):
    weight = torch.cat([head.weight, head_dist.weight], dim=1) / 2  # (K, 2D)
    both = features[:, :2].flatten(1)  # (B, 2D): class token, distillation token
    logits = F.linear(both, weight, (head.bias + head_dist.bias) / 2)
    first, second = head(features[:, 0]), head_dist(features[:, 1])
    return logits, first.max(dim=-1).indices == second.max(dim=-1).indices


def _heads_stacked(features, head, head_dist):
    class_token, dist_token, *_ = features.unbind(dim=1)
    answers = torch.stack([head(class_token), head_dist(dist_token)])  # (2, B, K)
    named = answers.argmax(dim=2)
    return answers.mean(dim=0), named[0].eq(named[1])


def _heads_by_loop(features, head, head_dist):
    logits, agree = [], []
    for image in features:
        a, b = head(image[0]), head_dist(image[1])
        logits.append(0.5 * a + 0.5 * b)
        agree.append(int(a.argmax()) == int(b.argmax()))
    return torch.stack(logits), torch.tensor(agree)


def _heads_of_mean_token(features, head, head_dist):
    token = (features[:, 0] + features[:, 1]) / 2
    same = head(token).argmax(dim=1) == head_dist(token).argmax(dim=1)
    return (head(token) + head_dist(token)) / 2, same


def _one_head_of_mean_token(features, head, head_dist):
    _, same = _heads()(features, head, head_dist)
    return head(features[:, :2].mean(dim=1)), same


def _one_head_twice(features, head, head_dist):
    return _heads()(features, head, head)


def _heads_exchanged(features, head, head_dist):
    return _heads()(features, head_dist, head)


def _heads_of_all_tokens(features, head, head_dist):
    logits, dist_logits = head(features), head_dist(features)
    return (logits + dist_logits) / 2, logits.argmax(dim=-1) == dist_logits.argmax(dim=-1)


def _heads_of_first_images(features, head, head_dist):
    return _heads()(features.transpose(0, 1), head, head_dist)


def _heads_compared_along_the_batch(features, head, head_dist):
    logits, dist_logits = head(features[:, 0]), head_dist(features[:, 1])
    return (logits + dist_logits) / 2, logits.argmax(dim=0) == dist_logits.argmax(dim=0)


def _two_heads_cases(answer) -> Cases:
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


_SAYS_WRONG_TOKEN = (
    "A head reads the wrong token. In `features` the class token is at index 0, the distillation "
    "token at index 1, and the patches follow: `head` reads `features[:, 0]`, `head_dist` "
    "`features[:, 1]`."
)

two_heads = Exercise(
    name="two_heads",
    chapter="10_distillation",
    task="two_heads(features, head, head_dist) -> (logits (B, K), agree (B,)): of tokens "
    "(B, 2 + N, D), the mean of the logits that `head` reads off the class token and `head_dist` "
    "off the distillation token; and for each image whether both heads name the same class, "
    "True or False",
    reference=_heads(),
    cases=_two_heads_cases,
    mutants={
        "sum": (
            _heads(lambda h, d: h + d),
            "The logits are added and not halved. The class that wins is the same, but every "
            "probability is too sure of itself: take the mean.",
        ),
        "brackets": (
            _heads(lambda h, d: h + d / 2),
            "Only the second head is halved, since / binds tighter than +. Put brackets around the "
            "sum.",
        ),
        "mean_of_probabilities": (
            _heads(lambda h, d: (h.softmax(dim=1) + d.softmax(dim=1)) / 2),
            "This is the mean of the probabilities. The paper's text fuses the heads so; its "
            "published code, and this book, average the logits. The two need not even name the "
            "same class: a head that is very sure of itself counts for more among logits. Leave "
            "out the softmax.",
        ),
        "mean_of_log_probabilities": (
            _heads(lambda h, d: (h.log_softmax(dim=1) + d.log_softmax(dim=1)) / 2),
            "Each head goes through log_softmax before the mean. That moves all logits of an image "
            "by the same number, so that the winner stays; but these are no longer the logits. "
            "Leave out log_softmax.",
        ),
        "probabilities_of_the_mean": (
            _heads(lambda h, d: ((h + d) / 2).softmax(dim=1)),
            "These are the probabilities of the mean. They are right, but the logits are asked "
            "for: the loss and whoever calls this take their own softmax. Leave it out.",
        ),
        "mean_of_the_tokens": (
            _heads_of_mean_token,
            "The two tokens are averaged, and both heads read the average. Each head has learned "
            "to read its own token: let it, and average what the heads say.",
        ),
        "mean_of_the_tokens_one_head": (
            _one_head_of_mean_token,
            "The two tokens are averaged, and one head reads the average. It has learned to read "
            "its own token only. Let each head read its own, and average what the heads say.",
        ),
        "one_head_twice": (
            _one_head_twice,
            "`head` reads both tokens. The distillation token has a head of its own, `head_dist`.",
        ),
        "heads_exchanged": (
            _heads_exchanged,
            "The heads have changed places: `head` belongs to token 0, the class token, and "
            "`head_dist` to token 1. The shapes cannot tell.",
        ),
        "same_token": (_heads(read=(0, 0)), _SAYS_WRONG_TOKEN),
        "same_token_first_patch": (_heads(read=(0, 2)), _SAYS_WRONG_TOKEN),
        "same_token_at_the_end": (_heads(read=(0, -1)), _SAYS_WRONG_TOKEN),
        "same_token_from_one_on": (_heads(read=(1, 2)), _SAYS_WRONG_TOKEN),
        "class_head_only": (
            _heads(lambda h, d: h),
            "These are the logits of the class head alone. In use both heads answer, and their "
            "mean counts.",
        ),
        "distillation_head_only": (
            _heads(lambda h, d: d),
            "These are the logits of the distillation head alone. In use both heads answer, and "
            "their mean counts.",
        ),
        "first_images": (
            _heads_of_first_images,
            "`features[0]` is the first *image*, with all of its tokens. The class token of every "
            "image is `features[:, 0]`.",
        ),
        "all_tokens": (
            _heads_of_all_tokens,
            "Every token is sent through the heads. Each head reads one: pick `features[:, 0]` and "
            "`features[:, 1]` first.",
        ),
        "agrees_with_the_mean": (
            _heads(agree=lambda own, mean: mean),
            "The class head is compared with the mean, which is half its own doing. Compare the "
            "two heads with each other.",
        ),
        "share_that_agrees": (
            _heads(agree=lambda own, mean: own.double().mean()),
            "The share of images on which the heads agree came back. One answer for each image is "
            "asked for, (B,): leave out the mean.",
        ),
        "disagree": (
            _heads(agree=lambda own, mean: ~own),
            "The second result is upside down: it should be True where both heads name the same "
            "class.",
        ),
        "compared_along_the_batch": (
            _heads_compared_along_the_batch,
            "argmax runs along the batch: it looks for the best image of each class. The classes "
            "are the second axis of the logits (B, K).",
        ),
        "swapped": (
            lambda *given: _heads()(*given)[::-1],
            "The two results have changed places: first the logits, then the agreement.",
        ),
    },
    accepted=[_heads_by_one_matrix, _heads_stacked, _heads_by_loop],
)

# --- 10.3 teacher_targets: what the teacher hands over, and what it keeps


def _targets(
    mode="eval", gradients=False, labels=lambda z: z.argmax(dim=1), sharpen=lambda z, tau: z / tau,
    soft=lambda z: z.softmax(dim=1),
):  # fmt: skip
    """Labels and probabilities from a teacher, with something changed."""

    def teacher_targets(teacher, images, tau):
        if mode == "eval":
            teacher.eval()
        with torch.set_grad_enabled(gradients):
            logits = teacher(images)
            return labels(logits), soft(sharpen(logits, tau))

    return teacher_targets


@torch.no_grad()
def _targets_mode_kept(teacher, images, tau):
    was_training = teacher.training
    logits = teacher.eval()(images)
    teacher.train(was_training)
    cooled = logits / tau
    return logits.max(dim=1).indices, (cooled - cooled.logsumexp(dim=1, keepdim=True)).exp()


def _targets_detached(teacher, images, tau):
    teacher.eval()
    logits = teacher(images).detach()
    return torch.argmax(logits, -1), F.softmax(logits / tau, -1)


def _targets_by_loop(teacher, images, tau):
    for part in teacher.modules():
        part.training = False
    labels, rows = [], []
    for image in images:
        with torch.no_grad():
            row = torch.softmax(teacher(image[None])[0] / tau, dim=0)
        labels.append(row.argmax().item())
        rows.append(row)
    return torch.tensor(labels), torch.stack(rows)


@torch.inference_mode()
def _targets_in_inference_mode(teacher, images, tau):
    return _targets()(teacher, images, tau)


def _targets_with_one_kind_in_eval(kind):
    """In eval mode are only the parts of this kind."""

    def teacher_targets(teacher, images, tau):
        for part in teacher.modules():
            if isinstance(part, kind):
                part.eval()
        return _targets(mode="")(teacher, images, tau)

    return teacher_targets


def _targets_told_to_train(teacher, images, tau):
    return _targets(mode="")(teacher.train(), images, tau)


def _targets_gradients_off(teacher, images, tau):
    torch.set_grad_enabled(False)
    return _targets()(teacher, images, tau)


def _teacher_targets_cases(answer) -> Cases:
    def run(training, images, classes, tau):
        teacher = fill(
            nn.Sequential(
                nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.4), nn.Flatten(),
                nn.Linear(24, classes),
            )
        )  # fmt: skip
        teacher(numbers(9, 1, 5, 4, seed=2) - 0.5)  # so that batch norm has statistics of its own
        teacher.train(training)
        state = {name: value.clone() for name, value in teacher.state_dict().items()}
        student = numbers(images, classes, seed=4).requires_grad_()
        result = call(answer, teacher, numbers(images, 1, 5, 4, seed=3), tau)
        off = not torch.is_grad_enabled()
        torch.set_grad_enabled(True)  # for the next case
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise Refused("two results should come back: the labels and the probabilities")
        labels, soft = result
        if isinstance(soft, torch.Tensor) and soft.shape == student.shape:
            (-(soft * student.log_softmax(dim=1)).sum()).backward()  # as a soft loss does it
        changed = any(not torch.equal(teacher.state_dict()[k], v) for k, v in state.items())
        return {
            "the labels": labels,
            "the probabilities": soft,
            "the numbers in the teacher": "changed" if changed else "unchanged",
            "weights of the teacher that get a gradient from the student's loss": sum(
                weight.grad is not None for weight in teacher.parameters()
            ),
            "gradients afterwards": "off" if off else "on",
        }

    yield "6 images, 4 classes, τ = 2, a teacher in training mode", lambda: run(True, 6, 4, 2.0)
    yield "a teacher in eval mode, τ = 1", lambda: run(False, 5, 3, 1.0)
    # a softmax or an argmax along the wrong axis has the right shape
    yield "3 images and 3 classes, τ = 0.5", lambda: run(True, 3, 3, 0.5)


_SAYS_TEACHER_TRAINS = (
    "The teacher answers in training mode. Dropout switches parts of it off at random, and batch "
    "norm goes by the images of this batch and learns from them: the teacher changes while it "
    "teaches, although no optimiser touches it. Call teacher.eval() first."
)
_SAYS_GRADIENT = (
    "The targets are right, but the probabilities still hang on the teacher's weights: the "
    "student's loss would send gradients into the teacher, and keeps all its intermediate tensors "
    "in memory. Let the teacher answer under torch.no_grad()."
)

teacher_targets = Exercise(
    name="teacher_targets",
    chapter="10_distillation",
    task="teacher_targets(teacher, images, tau) -> (labels (B,), probabilities (B, K)): the "
    "teacher's class for each image, and its softmax at temperature tau; in eval mode, with no "
    "number in the teacher changed, and no gradient into it",
    reference=_targets(),
    cases=_teacher_targets_cases,
    mutants={
        "training_mode": (_targets(mode="", gradients=True), _SAYS_TEACHER_TRAINS),
        "training_mode_no_grad": (_targets(mode=""), _SAYS_TEACHER_TRAINS),
        "training_mode_asked_for": (
            _targets_told_to_train,
            "teacher.train() does not train the teacher, it switches to training mode: dropout is "
            "on, and batch norm learns from the images. A teacher that answers wants "
            "teacher.eval().",
        ),
        "only_batch_norm_in_eval": (
            _targets_with_one_kind_in_eval(nn.BatchNorm2d),
            "Batch norm is in eval mode, dropout is not: the teacher's answers are different at "
            "each call. teacher.eval() switches every part.",
        ),
        "only_dropout_in_eval": (
            _targets_with_one_kind_in_eval(nn.Dropout),
            "Dropout is in eval mode, batch norm is not: it goes by the images of this batch, and "
            "learns from them. teacher.eval() switches every part.",
        ),
        "gradient": (_targets(gradients=True), _SAYS_GRADIENT),
        "inference_mode": (
            _targets_in_inference_mode,
            "What is made under torch.inference_mode() can take no part in a loss: the student's "
            "backward pass stops with an error. For targets that are learned from, use "
            "torch.no_grad().",
        ),
        "gradients_left_off": (
            _targets_gradients_off,
            "Gradients are switched off for good, and the student can learn nothing afterwards. "
            "`with torch.no_grad():` switches them off for its block only.",
        ),
        "no_tau": (
            _targets(sharpen=lambda z, tau: z),
            "tau is never used: these are the probabilities at temperature 1. Divide the logits by "
            "it before the softmax.",
        ),
        "times_tau": (
            _targets(sharpen=lambda z, tau: z * tau),
            "The logits are multiplied by tau, and a high temperature makes the teacher surer of "
            "itself, where it should make it softer. Divide.",
        ),
        "tau_after_the_softmax": (
            lambda teacher, images, tau: (
                (pair := _targets()(teacher, images, 1.0))[0],
                pair[1] / tau,
            ),
            "The probabilities are divided by tau, and do not sum to 1 any more. The temperature "
            "belongs inside: divide the logits, then take the softmax.",
        ),
        "softmax_over_images": (
            _targets(soft=lambda z: z.softmax(dim=0)),
            "The softmax runs over the images: each column sums to 1. It belongs to the classes, "
            "dim=1, so that each row does.",
        ),
        "best_image_of_each_class": (
            _targets(labels=lambda z: z.argmax(dim=0)),
            "argmax runs along the batch: it finds the best image of each class. The classes are "
            "the second axis of the logits (B, K).",
        ),
        "log_probabilities": (
            _targets(soft=lambda z: z.log_softmax(dim=1)),
            "These are logarithms of probabilities: none is above 0. F.kl_div can take them so, "
            "but probabilities are asked for here: softmax.",
        ),
        "logits": (
            _targets(soft=lambda z: z),
            "These are logits. Probabilities sum to 1 over the classes: softmax.",
        ),
        "softmax_twice": (
            _targets(soft=lambda z: z.softmax(dim=1).softmax(dim=1)),
            "The probabilities go through a softmax a second time, which makes them nearly equal. "
            "The teacher gives logits: one softmax is enough.",
        ),
        "largest_logits": (
            _targets(labels=lambda z: z.amax(dim=1)),
            "The largest logits came back in place of the labels. Where they stand, argmax tells.",
        ),
        "one_hot": (
            _targets(labels=lambda z: F.one_hot(z.argmax(dim=1), z.shape[1])),
            "The labels are spread over K columns of zeros and ones. One whole number an image is "
            "asked for, (B,), as F.cross_entropy takes it.",
        ),
        "swapped": (
            lambda *given: _targets()(*given)[::-1],
            "The two results have changed places: first the labels, then the probabilities.",
        ),
    },
    accepted=[_targets_mode_kept, _targets_detached, _targets_by_loop],
)

# --- 10.4 hard_loss: two heads, two sets of labels


def _hard(
    taught=lambda z, t, y: t.argmax(dim=1), weights=lambda a: (1 - a, a), smooth=(True, False),
    read=lambda z, d: (z, d), loss=F.cross_entropy,
):  # fmt: skip
    """The loss of hard distillation, with something changed."""

    def hard_loss(logits, dist_logits, teacher_logits, labels, alpha, smoothing):
        first, second = read(logits, dist_logits)
        truth = loss(first, labels, label_smoothing=smoothing * smooth[0])
        copied = taught(dist_logits, teacher_logits, labels)
        taught_loss = loss(second, copied, label_smoothing=smoothing * smooth[1])
        return weights(alpha)[0] * truth + weights(alpha)[1] * taught_loss

    return hard_loss


def _hard_by_hand(logits, dist_logits, teacher_logits, labels, alpha, smoothing):
    rows = torch.arange(len(labels))
    log_p, log_q = logits.log_softmax(dim=1), dist_logits.log_softmax(dim=1)
    truth = (1 - smoothing) * log_p[rows, labels] + smoothing * log_p.mean(dim=1)
    taught = log_q[rows, teacher_logits.max(dim=1).indices]
    return -((1 - alpha) * truth + alpha * taught).mean()


def _hard_by_targets(logits, dist_logits, teacher_logits, labels, alpha, smoothing):
    K = logits.shape[1]
    target = F.one_hot(labels, K) * (1 - smoothing) + smoothing / K
    taught = F.one_hot(teacher_logits.argmax(dim=-1), K).to(logits)
    learned = F.cross_entropy(logits, target.to(logits))
    return torch.lerp(learned, F.cross_entropy(dist_logits, taught), alpha)


def _hard_by_modules(logits, dist_logits, teacher_logits, labels, alpha, smoothing):
    base = nn.CrossEntropyLoss(label_smoothing=smoothing)(logits, labels)
    distilled = nn.NLLLoss()(nn.LogSoftmax(dim=1)(dist_logits), teacher_logits.argmax(1))
    return base * (1 - alpha) + distilled * alpha


def _hard_by_vitlib(logits, dist_logits, teacher_logits, labels, alpha, smoothing):
    class Teacher(nn.Module):
        def forward(self, images):
            return teacher_logits

    loss = DistillationLoss(Teacher(), "hard", alpha)
    return loss(torch.zeros(1, 1, 1, 1), (logits, dist_logits), labels, smoothing)


def _hard_targets_swapped(logits, dist_logits, teacher_logits, labels, alpha, smoothing):
    truth = F.cross_entropy(dist_logits, labels, label_smoothing=smoothing)
    return (1 - alpha) * F.cross_entropy(logits, teacher_logits.argmax(dim=1)) + alpha * truth


def _hard_by_other_smoothing(logits, dist_logits, teacher_logits, labels, alpha, smoothing):
    K = logits.shape[1]
    target = torch.full_like(logits, smoothing / (K - 1))
    target[torch.arange(len(labels)), labels] = 1 - smoothing
    truth = F.cross_entropy(logits, target)
    return (1 - alpha) * truth + alpha * F.cross_entropy(dist_logits, teacher_logits.argmax(dim=1))


def _log_of_softmax(logits, labels, label_smoothing):
    log_p = logits.softmax(dim=1).log()
    right = log_p[torch.arange(len(labels)), labels].mean()
    return -((1 - label_smoothing) * right + label_smoothing * log_p.mean())


def _in_single(answer, *given):
    """The loss in float32, in which vitlib computes it; one that is not finite is refused."""
    loss = call(answer, *given)
    if isinstance(loss, torch.Tensor) and loss.shape == () and not loss.isfinite():
        raise Refused(f"the loss is {loss.item()}", "not finite")
    return loss.float() if isinstance(loss, torch.Tensor) else loss


def _gradients(answer, given, **named):
    """The gradients of a loss that reach the named inputs, by their places among those given."""
    given = list(given)
    for place in named.values():
        given[place] = given[place].clone().requires_grad_()
    call(answer, *given).backward()
    return {name: _grad(given[place]).float() for name, place in named.items()}


def _hard_cases(answer) -> Cases:
    def given(images, classes, alpha, smoothing, size=1.0, seed=0):
        logits, dist_logits, teacher = (
            size * numbers(images, classes, seed=seed + i) for i in range(3)
        )
        labels = torch.arange(images) * 5 % classes
        labels[:2] = teacher[:2].argmax(dim=1)  # the teacher is right about some, not about all
        return logits, dist_logits, teacher, labels, alpha, smoothing

    def run(*sizes, **options):
        return _in_single(answer, *given(*sizes, **options))

    yield "5 images, 4 classes, α = 0.3, no smoothing", lambda: run(5, 4, 0.3, 0.0)
    yield "the same with smoothing 0.2", lambda: run(5, 4, 0.3, 0.2)
    yield "α = 0, labels only", lambda: run(5, 4, 0.0, 0.2)
    yield "α = 1, teacher only", lambda: run(5, 4, 1.0, 0.2)
    # argmax along the wrong axis raises no error here
    yield "3 images and 3 classes", lambda: run(3, 3, 0.6, 0.1, seed=4)
    yield "logits in the thousands", lambda: run(5, 4, 0.3, 0.1, size=2000.0)
    yield (
        "the gradients that reach the heads",
        (lambda: _gradients(answer, given(5, 4, 0.3, 0.2), logits=0, dist_logits=1)),
    )


hard_loss = Exercise(
    name="hard_loss",
    chapter="10_distillation",
    task="hard_loss(logits, dist_logits, teacher_logits, labels, alpha, smoothing) -> a tensor "
    "with one number: (1 − α) times the loss of the class logits on the labels, smoothed, plus α "
    "times that of the distillation logits on the teacher's classes, not smoothed",
    reference=_hard(),
    cases=_hard_cases,
    mutants={
        "both_smoothed": (
            _hard(smooth=(True, True)),
            "The teacher's classes are smoothed, too. The paper smooths the true labels only, and "
            "takes the teacher's as they are.",
        ),
        "teacher_smoothed": (
            _hard(smooth=(False, True)),
            "The smoothing has gone to the wrong term: the true labels are smoothed, the teacher's "
            "classes are not.",
        ),
        "not_smoothed": (
            _hard(smooth=(False, False)),
            "`smoothing` is never used. F.cross_entropy takes it as label_smoothing, here for the "
            "true labels only.",
        ),
        "fixed_smoothing": (
            lambda z, d, t, y, alpha, smoothing: _hard()(z, d, t, y, alpha, 0.1),
            "The labels are smoothed by 0.1, as in the paper, whatever `smoothing` is. Use the "
            "argument.",
        ),
        "smoothed_over_the_others": (
            _hard_by_other_smoothing,
            "The smoothing is shared among the *other* classes, with 1 − smoothing left for the "
            "right one. Label smoothing in the paper and in torch is shared among all K classes, "
            "so that the right one keeps 1 − smoothing + smoothing / K.",
        ),
        "softmax_first": (
            _hard(read=lambda z, d: (z.softmax(dim=1), d.softmax(dim=1))),
            "F.cross_entropy gets probabilities, and takes a softmax itself: with a second one all "
            "classes look nearly alike, and the loss can hardly fall. Give it the logits.",
        ),
        "weights_swapped": (
            _hard(weights=lambda a: (a, 1 - a)),
            "The weights have changed places. α is the teacher's: at α = 0 only the labels should "
            "count, at α = 1 only the teacher. At α = 0.5, the usual choice, nobody notices.",
        ),
        "alpha_ignored": (
            _hard(weights=lambda a: (0.5, 0.5)),
            "Both terms have the weight ½, as in the paper, whatever α is. Use `alpha`.",
        ),
        "sum": (
            _hard(weights=lambda a: (1, 1)),
            "The two terms are added without their weights: (1 − α) for the labels, α for the "
            "teacher.",
        ),
        "labels_at_full_weight": (
            _hard(weights=lambda a: (1, a)),
            "The labels keep the weight 1, and the teacher comes on top. The labels' weight is "
            "1 − α, so that the two sum to 1.",
        ),
        "heads_swapped": (
            _hard(read=lambda z, d: (d, z)),
            "The heads have changed places: here the class head learns from the teacher, and the "
            "distillation head from the labels. Nothing fails; but whoever reads one head "
            "alone reads the other one.",
        ),
        "targets_swapped": (
            _hard_targets_swapped,
            "The targets have changed places: here `logits` learn from the teacher, and "
            "`dist_logits` from the labels. The class head is for the labels.",
        ),
        "class_head_twice": (
            _hard(read=lambda z, d: (z, z)),
            "Both terms read the class logits, and the distillation head learns nothing. This is "
            "distillation without the token. The teacher's term belongs to dist_logits.",
        ),
        "distillation_head_twice": (
            _hard(read=lambda z, d: (d, d)),
            "Both terms read the distillation logits, and the class head learns nothing. The "
            "labels' term belongs to `logits`.",
        ),
        "mean_of_the_heads": (
            _hard(read=lambda z, d: ((z + d) / 2, (z + d) / 2)),
            "Both terms read the mean of the heads. The mean is for later, when the model is used; "
            "in training each head has a target of its own, or else the two tokens learn the same.",
        ),
        "teacher_graded": (
            lambda z, d, t, y, alpha, smoothing: (
                (1 - alpha) * F.cross_entropy(z, y, label_smoothing=smoothing)
                + alpha * F.cross_entropy(t, y)
            ),
            "The second term measures how well the *teacher* knows the labels, and `dist_logits` "
            "is never used: the distillation head learns nothing. It is to learn the class that "
            "the teacher names.",
        ),
        "no_teacher": (
            _hard(taught=lambda d, t, y: y),
            "Both heads learn the true labels, and the teacher is never asked. The distillation "
            "head learns the class that the teacher names, also where that is wrong.",
        ),
        "logits_as_targets": (
            _hard(taught=lambda d, t, y: t),
            "The teacher's logits themselves are the target. F.cross_entropy takes a target of "
            "numbers for probabilities, without looking whether they sum to 1, or are negative. "
            "Hard distillation wants one class an image: argmax.",
        ),
        "soft_targets": (
            _hard(taught=lambda d, t, y: t.softmax(dim=1)),
            "The target is the teacher's probabilities. That is a form of soft distillation. The "
            "hard one keeps only the class with the largest logit: argmax.",
        ),
        "students_own_class": (
            _hard(taught=lambda d, t, y: d.argmax(dim=1)),
            "The distillation head is taught by its own answers: the argmax is taken of "
            "dist_logits. Take the teacher's.",
        ),
        "argmax_along_the_batch": (
            _hard(taught=lambda d, t, y: t.argmax(dim=0)),
            "argmax runs along the batch: it looks for the best image of each class. The classes "
            "are the second axis of the logits (B, K).",
        ),
        "log_of_softmax": (
            _hard(loss=_log_of_softmax),
            "The loss is infinite (or nan) where a probability is so small that it is rounded to "
            "0: its logarithm is −∞. log_softmax or F.cross_entropy start from the logits, and "
            "stay finite.",
        ),
        "sum_over_images": (
            lambda *given: _hard()(*given) * len(given[0]),
            "The losses of the images are added up. Take their mean, or the gradient grows with "
            "the size of the batch.",
        ),
        "one_for_each_image": (
            _hard(loss=partial(F.cross_entropy, reduction="none")),
            "One loss for each image comes back. Take their mean.",
        ),
        "number": (
            lambda *given: _hard()(*given).item(),
            "The value is right, but it is a number of Python, and a loss must be a tensor: "
            "otherwise there is no backward(). Leave out .item() or float().",
        ),
        "torn_off": (
            lambda *given: _hard()(*given).detach(),
            "The value is right, but no gradient reaches the student. Look for .detach(), .data, "
            "torch.tensor(...) or no_grad(): only the teacher needs those.",
        ),
    },
    accepted=[_hard_by_hand, _hard_by_targets, _hard_by_modules, _hard_by_vitlib],
)

# --- 10.5 soft_loss: a function to repair


def _soft(
    way=lambda s, t: (s, t), cool=lambda z, t, tau: (z / tau, t / tau), factor=lambda tau: tau**2,
    axis=1, reduction="batchmean",
):  # fmt: skip
    """τ² KL(teacher ‖ student), with something changed."""

    def soft_loss(dist_logits, teacher_logits, tau):
        student, teacher = cool(dist_logits, teacher_logits, tau)
        student, teacher = way(student.log_softmax(dim=axis), teacher.log_softmax(dim=axis))
        loss = F.kl_div(student, teacher, reduction=reduction, log_target=True)
        return factor(tau) * loss

    return soft_loss


def _soft_by_hand(dist_logits, teacher_logits, tau):
    log_s, log_t = ((z / tau).log_softmax(dim=1) for z in (dist_logits, teacher_logits))
    return tau * tau * (log_t.exp() * (log_t - log_s)).sum(dim=1).mean()


def _soft_by_cross_entropies(dist_logits, teacher_logits, tau):
    teacher = F.softmax(teacher_logits / tau, dim=1)
    crossed = F.cross_entropy(dist_logits / tau, teacher)
    return (crossed - F.cross_entropy(teacher_logits / tau, teacher)) * tau**2


def _soft_by_module(dist_logits, teacher_logits, tau):
    kl = nn.KLDivLoss(reduction="sum")
    student, teacher = F.log_softmax(dist_logits / tau, -1), F.softmax(teacher_logits / tau, -1)
    return kl(student, teacher) / len(dist_logits) * tau**2


def _soft_by_loop(dist_logits, teacher_logits, tau):
    losses = []
    for z, t in zip(dist_logits / tau, teacher_logits / tau, strict=True):
        log_ratio = (t - t.logsumexp(0)) - (z - z.logsumexp(0))
        losses.append(einsum(t.softmax(0), log_ratio, "k, k ->"))
    return torch.stack(losses).mean() * tau**2


def _soft_by_vitlib(dist_logits, teacher_logits, tau):
    class Teacher(nn.Module):
        def forward(self, images):
            return teacher_logits

    labels = torch.zeros(len(dist_logits), dtype=torch.long)
    loss = DistillationLoss(Teacher(), "soft", alpha=1.0, tau=tau)
    return loss(torch.zeros(1, 1, 1, 1), (torch.zeros_like(dist_logits), dist_logits), labels)


def _soft_of_all_numbers(dist_logits, teacher_logits, tau):
    return _soft()(dist_logits, teacher_logits, tau) / dist_logits.shape[1]


def _soft_cross_entropy(dist_logits, teacher_logits, tau):
    return tau**2 * F.cross_entropy(dist_logits / tau, (teacher_logits / tau).softmax(dim=1))


def _soft_squares(dist_logits, teacher_logits, tau):
    student, teacher = ((z / tau).softmax(dim=1) for z in (dist_logits, teacher_logits))
    return tau**2 * (student - teacher).square().sum(dim=1).mean()


def _soft_without_log(dist_logits, teacher_logits, tau):
    student, teacher = ((z / tau).softmax(dim=1) for z in (dist_logits, teacher_logits))
    return tau**2 * F.kl_div(student, teacher, reduction="batchmean")


def _soft_without_log_target(dist_logits, teacher_logits, tau):
    student, teacher = ((z / tau).log_softmax(dim=1) for z in (dist_logits, teacher_logits))
    return tau**2 * F.kl_div(student, teacher, reduction="batchmean")


def _soft_log_of_softmax(dist_logits, teacher_logits, tau):
    student, teacher = ((z / tau).softmax(dim=1) for z in (dist_logits, teacher_logits))
    return tau**2 * F.kl_div(student.log(), teacher, reduction="batchmean")


def _soft_and_a_bit(dist_logits, teacher_logits, tau):
    student, teacher = ((z / tau).softmax(dim=1) + 1e-8 for z in (dist_logits, teacher_logits))
    return tau**2 * (teacher * (teacher.log() - student.log())).sum(dim=1).mean()


def _soft_cooled_late(dist_logits, teacher_logits, tau):
    student, teacher = (z.log_softmax(dim=1) / tau for z in (dist_logits, teacher_logits))
    return tau**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def _soft_of_logits(dist_logits, teacher_logits, tau):
    student = (dist_logits / tau).log_softmax(dim=1)
    return tau**2 * F.kl_div(student, teacher_logits / tau, reduction="batchmean")


def _soft_cases(answer) -> Cases:
    def given(images, classes, tau, size=1.0, seed=0):
        student, teacher = (size * numbers(images, classes, seed=seed + i) for i in range(2))
        return student, teacher, tau

    def run(*sizes, **options):
        return _in_single(answer, *given(*sizes, **options))

    def huge():
        loss = run(5, 4, 2.0, size=4000.0)
        if isinstance(loss, torch.Tensor) and loss.shape == () and 0 < loss < 100:
            raise Refused(f"the loss is {loss:.4g}, and should be above 1,000", "cut off")
        return loss

    def same():
        logits = numbers(4, 5, seed=6)
        return _in_single(answer, logits, logits.clone(), 2.0)

    yield "5 images, 4 classes, τ = 1", lambda: run(5, 4, 1.0)
    yield "the same at τ = 3", lambda: run(5, 4, 3.0)
    yield "3 images and 3 classes, τ = 0.5", lambda: run(3, 3, 0.5, seed=3)
    yield "a student that says what the teacher says", same
    yield "logits in the thousands", huge
    yield (
        "the gradient that reaches the student at τ = 3",
        (lambda: _gradients(answer, given(5, 4, 3.0), dist_logits=0)),
    )


_SAYS_DIRECTION = (
    "Teacher and student have changed places: this is KL(student ‖ teacher), which weighs the "
    "classes by the *student's* probabilities, so that what the student gives nothing to counts "
    "for nothing. F.kl_div wants the student's log-probabilities first and the teacher's second: "
    "the other way round from how the divergence is written."
)
_SAYS_TAU_SQUARED = (
    "The factor τ² is missing. Dividing the logits by τ makes the gradient about τ² times smaller; "
    "the factor brings it back, so that α means the same at every temperature."
)

soft_loss = Exercise(
    name="soft_loss",
    chapter="10_distillation",
    task="soft_loss(dist_logits, teacher_logits, tau) -> a tensor with one number: "
    "τ² KL(teacher ‖ student) between the two softmaxes at temperature τ, summed over the classes, "
    "averaged over the images",
    reference=_soft(),
    cases=_soft_cases,
    mutants={
        "direction_and_no_tau_squared": (
            _soft(way=lambda s, t: (t, s), factor=lambda tau: 1),
            f"Two things. {_SAYS_DIRECTION} And the factor τ² is missing: dividing the logits by τ "
            "makes the gradient about τ² times smaller.",
        ),
        "direction": (_soft(way=lambda s, t: (t, s)), _SAYS_DIRECTION),
        "no_tau_squared": (_soft(factor=lambda tau: 1), _SAYS_TAU_SQUARED),
        "times_tau": (
            _soft(factor=lambda tau: tau),
            "The factor is τ, and should be τ²: one τ comes from dividing the student's logits, "
            "the other from the teacher's, since both softmaxes become flatter.",
        ),
        "divided_by_tau_squared": (
            _soft(factor=lambda tau: 1 / tau**2),
            "The loss is divided by τ². The gradient is too small by about that factor already: "
            "multiply.",
        ),
        "student_not_cooled": (
            _soft(cool=lambda s, t, tau: (s, t / tau)),
            "Only the teacher's logits are divided by τ. Then the student would have to be as soft "
            "itself as the teacher is at τ. Both are divided.",
        ),
        "teacher_not_cooled": (
            _soft(cool=lambda s, t, tau: (s / tau, t)),
            "Only the student's logits are divided by τ. The teacher's softness is what it is "
            "about: divide both.",
        ),
        "tau_ignored": (
            _soft(cool=lambda s, t, tau: (s, t), factor=lambda tau: 1),
            "tau is never used. Divide both logits by it, and multiply the loss by its square.",
        ),
        "only_tau_squared": (
            _soft(cool=lambda s, t, tau: (s, t)),
            "The factor τ² is there, but the logits are not divided by τ: both, before the "
            "softmax.",
        ),
        "logits_times_tau": (
            _soft(cool=lambda s, t, tau: (s * tau, t * tau)),
            "The logits are multiplied by τ: a high temperature makes the teacher harder here, and "
            "should make it softer. Divide.",
        ),
        "mean_of_all_numbers": (
            _soft_of_all_numbers,
            "The loss is K times too small: it is averaged over images *and* classes. So does "
            'reduction="mean", and DeiT\'s published code. Sum over the classes, average over the '
            'images: in F.kl_div that is called "batchmean".',
        ),
        "sum_over_images": (
            _soft(reduction="sum"),
            'The losses of the images are added up. Take their mean; in F.kl_div, "batchmean" '
            "sums over the classes and averages over the images.",
        ),
        "one_for_each_number": (
            _soft(reduction="none"),
            "One number for each image and class comes back. Sum over the classes, then take the "
            "mean over the images.",
        ),
        "one_for_each_image": (
            lambda *given: _soft(reduction="none")(*given).sum(dim=1),
            "One loss for each image comes back. Take their mean.",
        ),
        "cross_entropy": (
            _soft_cross_entropy,
            "This is a cross-entropy. Its gradient is the same, but it is larger than the "
            "divergence by the teacher's own entropy, so a perfect student would not reach 0. "
            "Subtract that, or use F.kl_div.",
        ),
        "squared_differences": (
            _soft_squares,
            "These are squared differences of probabilities. The divergence compares their "
            "logarithms: the mean of log p_t − log p_s, weighted by p_t.",
        ),
        "wrong_axis": (
            _soft(axis=0),
            "The softmax runs along the batch, so that the images compete for each class. It "
            "belongs to the axis of the classes: dim=1.",
        ),
        "probabilities_of_the_student": (
            _soft_without_log,
            "F.kl_div gets the student's probabilities. It wants their logarithms, and does not "
            "look: log_softmax for the student.",
        ),
        "log_target_forgotten": (
            _soft_without_log_target,
            "F.kl_div gets the teacher's log-probabilities and takes them for probabilities. Say "
            "log_target=True, or give it the teacher's softmax.",
        ),
        "log_of_softmax": (
            _soft_log_of_softmax,
            "The loss is infinite or nan where a probability is so small that it is rounded to 0: "
            "its logarithm is −∞, and 0/0 has no value. log_softmax computes the logarithm "
            "straight from the logits, and stays finite.",
        ),
        "log_of_softmax_and_a_bit": (
            _soft_and_a_bit,
            "A small number in the logarithm, such as 1e-8, or a clamp keeps the loss finite, but "
            "cuts it off: a student that is very wrong is not told how wrong. log_softmax needs no "
            "such help.",
        ),
        "logits_as_target": (
            _soft_of_logits,
            "F.kl_div gets the teacher's logits and takes them for probabilities; of a negative "
            "one there is no logarithm, hence nan. Give it the teacher's softmax, or its "
            "log_softmax with log_target=True.",
        ),
        "cooled_after_log_softmax": (
            _soft_cooled_late,
            "The division by τ comes after log_softmax, and what it leaves are no logarithms of "
            "probabilities: they do not sum to 1. Divide the logits first.",
        ),
        "no_minus": (
            lambda *given: -_soft()(*given),
            "The sign is wrong: a divergence is never below 0, and this one never above.",
        ),
        "number": (
            lambda *given: _soft()(*given).item(),
            "The value is right, but it is a number of Python, and a loss must be a tensor: "
            "otherwise there is no backward(). Leave out .item() or float().",
        ),
        "torn_off": (
            lambda *given: _soft()(*given).detach(),
            "The value is right, but no gradient reaches the student. Look for .detach(), .data, "
            "torch.tensor(...) or no_grad(): only the teacher needs those.",
        ),
    },
    accepted=[
        _soft_by_hand,
        _soft_by_cross_entropies,
        _soft_by_module,
        _soft_by_loop,
        _soft_by_vitlib,
    ],
)

# --- 10.6 token_cosine: how alike the two tokens are, by depth


def _cosines(read=(0, 1), similar=F.cosine_similarity, average=lambda c: c.mean()):
    """The mean cosine of two tokens at each depth, with something changed."""

    def token_cosine(tokens_by_depth):
        pairs = [(x[:, read[0]], x[:, read[1]]) for x in tokens_by_depth]  # (B, D) each
        return torch.stack([average(similar(a, b)) for a, b in pairs])

    return token_cosine


def _cosine_at_once(tokens_by_depth):
    stacked = torch.stack(list(tokens_by_depth))[:, :, :2]  # (L, B, 2, D)
    unit = F.normalize(stacked, dim=-1)
    return (unit[:, :, 0] * unit[:, :, 1]).sum(dim=-1).mean(dim=1)


def _cosine_by_loop(tokens_by_depth):
    result = []
    for tokens in tokens_by_depth:
        total = 0.0
        for image in tokens:
            a, b = image[0], image[1]
            total += (a @ b / (a.norm() * b.norm())).item()
        result.append(total / len(tokens))
    return torch.tensor(result)


def _cosine_by_einsum(tokens_by_depth):
    tokens = rearrange(list(tokens_by_depth), "l b t d -> l b t d")
    a, b = tokens[:, :, 0], tokens[:, :, 1]
    dots = einsum(a, b, "l b d, l b d -> l b")
    lengths = einsum(a, a, "l b d, l b d -> l b") * einsum(b, b, "l b d, l b d -> l b")
    return (dots / lengths.sqrt()).mean(1)


def _centred(a, b):
    return F.cosine_similarity(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True))


def _cosine_of_all_pairs(a, b):
    return F.normalize(a, dim=1) @ F.normalize(b, dim=1).T


def _cosine_ratio_of_sums(a, b):
    return (a * b).sum() / (a.norm(dim=1) * b.norm(dim=1)).sum()


def _half_normed(a, b):
    return (a * F.normalize(b, dim=1)).sum(dim=1)


def _cosine_over_images(tokens_by_depth):
    stacked = torch.stack(list(tokens_by_depth))
    return F.cosine_similarity(stacked[:, :, 0], stacked[:, :, 1], dim=-1).mean(dim=0)


def _cosine_of_misnormalised(tokens_by_depth):
    unit = [F.normalize(tokens) for tokens in tokens_by_depth]
    return _cosines(similar=lambda a, b: (a * b).sum(dim=1))(unit)


def _cosine_of_first_image(tokens_by_depth):
    return _cosines()([tokens[:1] for tokens in tokens_by_depth])


def _token_cosine_cases(answer) -> Cases:
    def depths(count, images, patches, dim, seed=0):
        longer = torch.arange(1.0, images + 1).double()[:, None, None]  # so that norms differ
        made = [numbers(images, 2 + patches, dim, seed=seed + i) for i in range(count)]
        return [longer * tokens + 0.4 for tokens in made]

    def run(tokens_by_depth):
        given = [tokens.clone() for tokens in tokens_by_depth]
        result = call(answer, given)
        if not all(map(torch.equal, given, tokens_by_depth)):
            raise Refused("your code changes the tensors that it is given: divide into new ones")
        return result.float() if isinstance(result, torch.Tensor) else result

    right, up, patch = [3.0, 0.0], [0.0, 2.0], [1.0, 1.0]
    toy = [[[right, up, patch]], [[right, [1.0, 1.0], patch]], [[right, [-1.0, 0.0], patch]]]
    yield (
        "one image at 3 depths: a right angle, 45° and opposite",
        (lambda: run([torch.tensor(x, dtype=torch.float64) for x in toy])),
    )
    yield "4 depths, 3 images, 5 patches, D = 6", lambda: run(depths(4, 3, 5, 6))
    yield "2 depths, 2 images, 2 patches, D = 2", lambda: run(depths(2, 2, 2, 2, seed=5))
    yield "one depth, 4 images", lambda: run(depths(1, 4, 1, 3, seed=8))


token_cosine = Exercise(
    name="token_cosine",
    chapter="10_distillation",
    task="token_cosine(tokens_by_depth) -> a tensor (L,): from a list of L tensors (B, 2 + N, D), "
    "for each the cosine between class token and distillation token of the same image, averaged "
    "over the images",
    reference=_cosines(),
    cases=_token_cosine_cases,
    mutants={
        "dot_product": (
            _cosines(similar=lambda a, b: (a * b).sum(dim=1)),
            "These are dot products. They grow with the length of the tokens, which grows with "
            "depth whether the tokens are alike or not. Divide by both lengths.",
        ),
        "one_length": (
            _cosines(similar=_half_normed),
            "Only the distillation token is divided by its length. A cosine lies between −1 and 1: "
            "divide by both lengths.",
        ),
        "one_length_of_the_class_token": (
            _cosines(similar=lambda a, b: _half_normed(b, a)),
            "Only the class token is divided by its length. A cosine lies between −1 and 1: divide "
            "by both lengths.",
        ),
        "of_the_mean_tokens": (
            _cosines(similar=lambda a, b: F.cosine_similarity(a.mean(0), b.mean(0), dim=0)),
            "The tokens are averaged over the images first, and the cosine is taken of the "
            "averages. What differs from image to image is gone then, and the two look more alike "
            "than they are. Cosine first, for each image; then the mean.",
        ),
        "sums_first": (
            _cosines(similar=_cosine_ratio_of_sums),
            "Dot products and lengths are summed over the images before the division, so that "
            "images with long tokens count for more. Divide for each image, then take the mean.",
        ),
        "all_pairs": (
            _cosines(similar=_cosine_of_all_pairs),
            "Every class token is compared with the distillation tokens of all images. Only the "
            "pairs of the same image are meant: the diagonal of your table.",
        ),
        "flattened": (
            _cosines(similar=lambda a, b: F.cosine_similarity(a.flatten(), b.flatten(), dim=0)),
            "All images are laid out in one long vector before the cosine is taken, so that images "
            "with long tokens count for more. One cosine for each image, then the mean.",
        ),
        "along_the_batch": (
            _cosines(similar=lambda a, b: F.cosine_similarity(a, b, dim=0)),
            "The cosine runs along the images, one for each channel. It belongs to the channels, "
            "the last axis: dim=-1 gives one for each image.",
        ),
        "divided_along_the_tokens": (
            _cosine_of_misnormalised,
            "The lengths are taken along the tokens, channel by channel: `F.normalize(x)` runs "
            "along axis 1 if it is not told otherwise, and in (B, 2 + N, D) those are the tokens. "
            "dim=-1 is the axis of the channels.",
        ),
        "first_image": (
            _cosine_of_first_image,
            "Only the first image of each tensor counts. `x[:, 0]` is the class token of every "
            "image, `x[0]` the first image with all of its tokens.",
        ),
        "first_patch": (
            _cosines(read=(0, 2)),
            "The class token is compared with the first patch, at index 2. The distillation token "
            "is at index 1.",
        ),
        "last_token": (
            _cosines(read=(0, -1)),
            "The class token is compared with the last patch. The distillation token stands "
            "second, at index 1.",
        ),
        "from_one_on": (
            _cosines(read=(1, 2)),
            "The distillation token is compared with the first patch: indices 1 and 2. They start "
            "at 0: class token 0, distillation token 1.",
        ),
        "centred": (
            _cosines(similar=_centred),
            "The mean over the channels is subtracted first: that is a correlation. A cosine takes "
            "the tokens as they are.",
        ),
        "absolute": (
            _cosines(average=lambda c: c.abs().mean()),
            "The sign is lost. Tokens that point in opposite directions have the cosine −1.",
        ),
        "distance": (
            _cosines(average=lambda c: 1 - c.mean()),
            "This is 1 minus the cosine, a distance. Equal directions should give 1.",
        ),
        "mean_over_depths": (
            _cosine_over_images,
            "The mean is taken over the depths, and one number for each image comes back. Average "
            "over the images: one for each depth.",
        ),
        "no_mean": (
            _cosines(average=lambda c: c),
            "A number for each depth *and* image comes back. Take the mean over the images.",
        ),
        "one_number": (
            lambda tokens_by_depth: _cosines()(tokens_by_depth).mean(),
            "One number comes back. How it changes with depth is the point: one for each tensor of "
            "the list.",
        ),
        "last_depth_only": (
            lambda tokens_by_depth: _cosines()(tokens_by_depth)[-1:],
            "Only the last depth comes back. One number for each tensor of the list is wanted.",
        ),
    },
    accepted=[_cosine_at_once, _cosine_by_loop, _cosine_by_einsum],
)

EXERCISES = [distilled_tokens, two_heads, teacher_targets, hard_loss, soft_loss, token_cosine]
