"""8.1 start_gap: the loss of a fresh model beside that of a guess."""

import math
from functools import partial

import torch
import torch.nn.functional as F

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers, one_number
from vitlib.check.probing import draw


def start_gap(logits, labels):
    loss = F.cross_entropy(logits, labels)
    return loss - math.log(logits.shape[1])


def two_losses(logits, labels):
    guess = torch.zeros_like(logits)
    return (F.cross_entropy(logits, labels) - F.cross_entropy(guess, labels)).item()


def by_hand(logits, labels):
    right = logits[torch.arange(len(labels)), labels]
    losses = logits.logsumexp(dim=1) - right
    return losses.mean() + math.log(1 / logits.shape[1])


def exponentials(logits, labels):
    """Mistakes are made of it; large logits are too much for it."""
    odds = logits.exp()
    share = odds / odds.sum(dim=1, keepdim=True)
    right = share[torch.arange(len(labels)), labels]
    return -right.log().mean() - math.log(logits.shape[1])


def cases(answer) -> Cases:
    def run(images, classes, scale, labels=None):
        logits = scale * numbers(images, classes, seed=3)
        labels = logits.argmax(dim=1) if labels is None else torch.tensor(labels)
        return one_number(call(answer, logits, labels))

    yield "5 images, 7 classes", lambda: run(5, 7, 1.5, [2, 0, 4, 1, 2])
    yield "all logits zero", lambda: run(4, 12, 0.0, [7, 3, 3, 0])
    yield "3 images and 3 classes", lambda: run(3, 3, 2.0, [0, 2, 2])
    yield "1 image, 6 classes", lambda: run(1, 6, 3.0, [4])
    yield "a model that has learned these images", lambda: run(2, 5, 1.0)
    yield "logits in the thousands", lambda: run(6, 4, 3000.0, [3, 0, 1, 1, 0, 2])


MUTANTS = edits(start_gap, """
loss_only: loss - math.log(logits.shape[1]) → loss
    This is the loss itself. Subtract what somebody pays who knows nothing: ln K.
added: loss - math → loss + math
    The loss of the guess is added. It is −ln(1/K), which is +ln K: subtract that. (Mind the two
    signs: ln(1/K) is negative already.)
wrong_way_round: loss - math.log(logits.shape[1]) → math.log(logits.shape[1]) - loss
    The difference has the wrong sign: a model that does worse than a guess should give a positive
    number. Take the model's loss minus ln K.
absolute: loss - math.log(logits.shape[1]) → abs(loss - math.log(logits.shape[1]))
    The absolute value hides on which side the loss is. A model that does better than a guess should
    give a negative number: leave out abs.
never_negative: loss - math.log(logits.shape[1]) → (loss - math.log(logits.shape[1])).clamp(min=0)
    Negative numbers are cut off at 0. A model that does better than a guess should give one.
ratio: loss - math → loss / math
    The loss is divided by ln K. How much the one exceeds the other is a difference: subtract.
share: loss - math.log(logits.shape[1]) → loss / math.log(logits.shape[1]) - 1
    The difference is divided by ln K, too. Return the difference alone.
share_of_the_loss: loss - math.log(logits.shape[1]) → 1 - math.log(logits.shape[1]) / loss
    The difference is divided by the loss, too. Return the difference alone.
log_10: math.log( → math.log10(
    The guess is measured with the logarithm to base 10, and cross-entropy with the natural one.
    Both have to be the same: math.log.
log_2: math.log( → math.log2(
    The guess is measured with the logarithm to base 2, and cross-entropy with the natural one.
    Both have to be the same: math.log.
log_of_1_more: math.log( → math.log1p(
    log1p(K) is the logarithm of K + 1. Take math.log.
no_logarithm: math.log(logits.shape[1]) → logits.shape[1]
    The number of classes itself is subtracted. A guess costs its logarithm, ln K.
probability_of_the_guess: math.log(logits.shape[1]) → 1 / logits.shape[1]
    1/K is the *probability* that the guess gives to the right class. Its loss is −ln(1/K) = ln K.
one_term_of_the_sum: math.log(logits.shape[1]) → math.log(logits.shape[1]) / logits.shape[1]
    (1/K) ln K is one of K terms of an entropy. The guess pays −ln(1/K) = ln K for each image.
number_of_images: logits.shape[1] → logits.shape[0]
    The logarithm is that of the number of images. K is the second size of the logits (B, K):
    logits.shape[1].
largest_label: logits.shape[1] → int(labels.max()) + 1
largest_label_itself: logits.shape[1] → int(labels.max())
    K is taken from the largest label of the batch. A batch need not hold every class; the model has
    a logit for each: K is logits.shape[1].
labels_in_the_batch: logits.shape[1] → len(labels.unique())
    K is the number of classes that happen to be in this batch. The model has a logit for each that
    there is: K is logits.shape[1].
always_ten: logits.shape[1] → 10
    The loss of the guess is a fixed number, that of ten classes. Take K from the logits (B, K):
    math.log(logits.shape[1]).
always_2_3: math.log(logits.shape[1]) → 2.3
always_2_303: math.log(logits.shape[1]) → 2.303
    The loss of the guess is a fixed number, rounded, that of ten classes. Take K from the logits:
    math.log(logits.shape[1]).
knows_how_often: math.log(logits.shape[1]) →
→ torch.distributions.Categorical(probs=labels.bincount().double()).entropy()
    Your guess knows how often each class is in this batch. Somebody who knows nothing gives each
    of the K classes the same probability, and pays ln K.
softmax_first: cross_entropy(logits, → cross_entropy(logits.softmax(dim=1),
    The probabilities go into F.cross_entropy, which takes logits and applies the softmax itself.
    With two of them no loss is far from ln K, and the bad start is hidden.
softmax_over_the_images: F.cross_entropy(logits, labels) →
→ F.nll_loss(logits.log_softmax(dim=0), labels)
    The softmax runs over the images. It belongs to the classes, dim=1: a guess is about one image.
no_softmax: cross_entropy → nll_loss
    F.nll_loss takes logarithms of probabilities, and these are logits. F.cross_entropy does both
    steps.
log_forgotten: F.cross_entropy(logits, labels) → F.nll_loss(logits.softmax(dim=1), labels)
    The logarithm is missing: this is the mean probability of the right class, with a minus. The
    loss is −ln of it, image by image.
mean_before_the_log: F.cross_entropy(logits, labels) →
→ -logits.softmax(dim=1)[torch.arange(len(labels)), labels].mean().log()
    The probabilities are averaged, and then comes the logarithm. First the loss of each image, −ln
    of its probability, then the mean.
added_eps: F.cross_entropy(logits, labels) →
→ F.nll_loss((logits.softmax(dim=1) + 1e-8).log(), labels)
added_eps_of_a_hundredth: F.cross_entropy(logits, labels) →
→ F.nll_loss((logits.softmax(dim=1) + 1e-10).log(), labels)
added_eps_of_9_places: F.cross_entropy(logits, labels) →
→ F.nll_loss((logits.softmax(dim=1) + 1e-9).log(), labels)
added_eps_of_12_places: F.cross_entropy(logits, labels) →
→ F.nll_loss((logits.softmax(dim=1) + 1e-12).log(), labels)
    A small number keeps the logarithm finite, and so no loss can be larger than −ln of it: after a
    bad start yours is too small. log_softmax and F.cross_entropy need no such number.
log_of_softmax: F.cross_entropy(logits, labels) →
→ F.nll_loss(logits.softmax(dim=1).log(), labels)
    It is right for small logits. With large ones a probability is rounded to 0, and its logarithm
    is infinite. log_softmax and F.cross_entropy take both steps at once, and get it right.
one_per_image: cross_entropy(logits, labels) → cross_entropy(logits, labels, reduction="none")
    One number per image comes back. Average them over the images, as F.cross_entropy does without
    reduction="none".
summed: cross_entropy(logits, labels) → cross_entropy(logits, labels, reduction="sum")
    The losses of the images are summed. Take their mean, as F.cross_entropy does by itself.
divided_by_classes: F.cross_entropy(logits, labels) →
→ F.cross_entropy(logits, labels, reduction="sum") / logits.shape[1]
    The sum over the images is divided by the number of classes. Divide it by the number of images,
    or let F.cross_entropy take the mean.
minus_forgotten: loss - math → -loss - math
    The minus of the loss is missing: it is −ln of the probability of the right class.
every_label: F.cross_entropy(logits, labels) → -logits.log_softmax(dim=1)[:, labels].mean()
    Each image is charged for the labels of all the others as well: `[:, labels]` takes a column for
    each label. One number per image is wanted: [torch.arange(B), labels], or F.cross_entropy.
every_class: F.cross_entropy(logits, labels) → -logits.log_softmax(dim=1).mean()
    The loss is averaged over all K classes, and the labels are not used. Take that of the right
    class.
own_answer: cross_entropy(logits, labels) → cross_entropy(logits, logits.argmax(dim=1))
    The loss is taken of the class that the model names. It belongs to the right class: labels.
entropy: F.cross_entropy(logits, labels) → torch.distributions.Categorical(logits=logits).entropy()
and: loss - → loss.mean() -
entropy_by_hand: F.cross_entropy(logits, labels) →
→ -(logits.softmax(dim=1) * logits.softmax(dim=1).log()).sum(dim=1).mean()
    This is the entropy of the answers: how unsure the model is, right or wrong. The loss is −ln of
    the probability of the *right* class, and needs the labels.
yes_or_no: loss - math → loss > math
    This says whether the loss is above that of a guess. The task asks by how much: return the
    difference.
perplexity: loss - math.log(logits.shape[1]) → loss.exp() - logits.shape[1]
    The exponentials are compared, e to the loss with K. Compare the losses themselves: loss − ln K.
rounded: loss - math.log(logits.shape[1]) → round((loss - math.log(logits.shape[1])).item(), 2)
    The number is rounded. Return it as it is; whoever prints it may round.
""") | edits(exponentials, """
exponentials:
    It is right for small logits. The exponential of a large one is infinite, or the probability
    beside it is rounded to 0 and its logarithm is infinite; nan comes of both. log_softmax and
    F.cross_entropy take all steps at once, and get it right.
""")  # fmt: skip


def probe(answer):
    def run(B, K, scale, seed):
        logits, labels = scale * draw(B, K, seed=seed), torch.arange(B) * 2 % K
        return one_number(answer(logits.clone(), labels))

    sizes = [(4, 9, 1.0, 1), (3, 5, 5000.0, 2), (1, 3, 2.0, 3), (4, 4, 3.0, 4), (7, 2, 0.01, 5)]
    return [partial(run, *size) for size in sizes]


EXERCISE = Exercise(
    name="start_gap",
    chapter="08_debugging",
    task="start_gap(logits, labels) -> one number: the mean cross-entropy of the logits (B, K) "
    "minus ln K, the loss of somebody who gives each of the K classes the same probability; also "
    "for logits in the thousands",
    reference=start_gap,
    cases=cases,
    mutants=MUTANTS,
    accepted=[two_losses, by_hand],
    probe=probe,
)
