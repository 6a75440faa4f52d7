"""7.3 smooth_cross_entropy: without ever writing the target down."""

import torch
import torch.nn.functional as F

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call, numbers
from vitlib.check.probing import draw, gradient, returns


def smooth_cross_entropy(logits, labels, smoothing):
    costs = -logits.log_softmax(dim=1)  # (B, K): what each class would cost
    right = costs[torch.arange(len(labels)), labels]  # (B,)
    spread = costs.mean(dim=1)
    return ((1 - smoothing) * right + smoothing * spread).mean()


def by_torch(logits, labels, smoothing):
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


def by_target(logits, labels, smoothing):
    classes = logits.shape[1]
    target = torch.full_like(logits, smoothing / classes)
    target[torch.arange(len(labels)), labels] += 1 - smoothing
    return -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()


def by_float32_target(logits, labels, smoothing):
    classes = logits.shape[1]
    target = torch.eye(classes)[labels] * (1 - smoothing) + smoothing / classes
    return F.cross_entropy(logits, target.to(logits.dtype))


def by_gather(logits, labels, smoothing):
    log_p = logits - logits.logsumexp(dim=1, keepdim=True)
    right = log_p.gather(1, labels[:, None])
    return -((1 - smoothing) * right.mean() + smoothing * log_p.mean())


def cases(answer) -> Cases:
    def run(*arguments):
        loss = call(answer, *arguments)
        # in float32: a target of torch.full is right, and log(p + 1e-8) is seen where it does harm
        return loss.float() if isinstance(loss, torch.Tensor) else loss

    def huge():
        loss = run(1000 * logits, labels, 0.1)
        if isinstance(loss, torch.Tensor) and loss.shape == ():
            if not loss.isfinite():
                raise Refused(f"the loss is {loss:.4g}", "not finite")
            if 0 < loss < 100:
                raise Refused(f"the loss is {loss:.4g}, and should be above 1,000", "cut off")
        return loss

    def logits_gradient():
        z = logits.clone().requires_grad_()
        call(answer, z, labels, 0.2).backward()
        return None if z.grad is None else z.grad.float()

    toy, label = torch.tensor([[2.0, 1.0, -1.0]], dtype=torch.float64), torch.tensor([0])
    yield "the toy of the chapter, smoothing 0.1", lambda: run(toy, label, 0.1)
    logits, labels = numbers(4, 6), torch.tensor([5, 0, 2, 2])
    yield "4 images, 6 classes, smoothing 0.2", lambda: run(logits, labels, 0.2)
    yield "4 images, 6 classes, no smoothing", lambda: run(logits, labels, 0.0)
    yield "logits in the thousands", huge
    yield "the gradient that reaches the logits", logits_gradient


MUTANTS = edits(smooth_cross_entropy, """
log_of_softmax: logits.log_softmax(dim=1) → logits.softmax(dim=1).log()
    The loss is infinite (or nan) where a probability is so small that it is rounded to 0: its
    logarithm is −∞. log_softmax computes the logarithm straight from the logits, and stays finite.
log_of_softmax_and_a_bit: logits.log_softmax(dim=1) → (logits.softmax(dim=1) + 1e-8).log()
    A small number in the logarithm, such as 1e-8, or a clamp keeps the loss finite, but cuts it
    off: a model that is very wrong is not told how wrong. log_softmax needs no such help.
sum_over_classes: mean(dim=1) → sum(dim=1)
    The spread share counts K times too much: each class gets ε instead of ε/K. Take the mean of
    −log p over the classes where you took the sum.
share_divided_twice: costs.mean(dim=1) → costs.mean(dim=1) / costs.shape[1]
    The spread share counts K times too little: each class gets ε/K², since a mean over the classes
    divides by K already.
whole_label: (1 - smoothing) * right → right
    The label keeps its whole weight 1, and the spread share comes on top: such a target adds up to
    1 + ε. The label's part has the weight 1 − ε.
smoothing_ignored: (1 - smoothing) * right + smoothing * spread → right
    `smoothing` is never used: this is the plain cross-entropy. The label keeps the share 1 − ε; the
    share ε is spread over all classes.
weights_swapped: (1 - smoothing) * right + smoothing * spread →
→ smoothing * right + (1 - smoothing) * spread
    The two shares have changed places. The label keeps 1 − ε, and only ε is spread over the
    classes: without smoothing, the label should count alone.
no_spread: + smoothing * spread →
    The spread share is missing: the label has the weight 1 − ε, and the rest of the target goes
    nowhere. Add ε times the mean of −log p over the classes.
spread_only: (1 - smoothing) * right + →
    Only the spread share counts, and the labels are never looked at. Add (1 − ε) times −log p of
    the label.
spread_subtracted: right + smoothing → right - smoothing
    The spread share is subtracted. Both parts are costs, −log p: add them.
probabilities: -logits.log_softmax(dim=1) → -logits.softmax(dim=1)
    These are means of probabilities. A cross-entropy is made of their logarithms: log_softmax.
logits: -logits.log_softmax(dim=1) → -logits
    The logits are taken for logarithms of probabilities. They become these through log_softmax;
    F.nll_loss does not do it either.
all_pairs: costs[torch.arange(len(labels)), labels] → costs[:, labels].mean(dim=1)
    costs[:, labels] gives every image the labels of *all* images, (B, B). Each image has one label:
    costs[torch.arange(B), labels], or gather.
spread_without_the_model: costs.mean(dim=1) → torch.log(torch.tensor(costs.shape[1]))
    The share that is spread costs ln K, whatever the model says. It costs the mean of −log p over
    all classes: that is how far the model is from spreading it evenly.
spread_of_logits: costs.mean(dim=1) → -logits.mean(dim=1)
    The spread share takes the mean of the *logits*. It is −log p that is averaged, what log_softmax
    gives.
divided_by_the_images: costs.mean(dim=1) → costs.sum(dim=1) / len(costs)
    The spread share is divided by the number of images. Each class gets ε/K: divide by the number
    of classes, logits.shape[1].
likeliest_class: costs[torch.arange(len(labels)), labels] → costs.amin(dim=1)
    You take the class that the model thinks likeliest. It is the label's −log p that counts,
    whatever the model thinks.
ten_classes: costs.mean(dim=1) → costs.sum(dim=1) / 10
    The share is spread as if there were 10 classes. Take the number of classes from the logits: K =
    logits.shape[1].
mixed_probabilities: costs = → spread = smoothing / logits.shape[1]
→ smoothed = (1 - smoothing) * logits.softmax(dim=1) + spread
→ return -smoothed.log()[torch.arange(len(labels)), labels].mean()
→ costs =
    It is the model's probabilities that are smoothed here. The *target* is: the share ε of the
    loss is the mean of −log p over all classes.
softmax_twice: logits.log_softmax → logits.softmax(dim=1).log_softmax
    The softmax is taken twice: of probabilities once more, after which all classes look nearly
    alike. log_softmax and F.cross_entropy want the logits.
one_for_each_image: .mean() →
    One loss for each image comes back. Take their mean.
sum_over_images: .mean() → .sum()
    The losses of the images are added up. Take their mean, or the gradient grows with the size of
    the batch.
wrong_axis: log_softmax(dim=1) → log_softmax(dim=0)
    The softmax runs along the batch, so that the images compete for each class. It belongs to the
    axis of the classes: dim=1.
no_minus: -logits → logits
    The minus is missing. Logarithms of probabilities are negative, and a loss that goes down
    towards −∞ would teach the model to be wrong.
number: .mean() → .mean().item()
    The value is right, but it is a number of Python, and a loss must be a tensor: otherwise there
    is no backward(). Leave out .item() or float().
torn_off: .mean() → .mean().detach()
    The value is right, but no gradient reaches the logits. torch.tensor(...), .item(), .detach()
    and no_grad() keep the number and forget how it came about. Compute with tensors from the logits
    to the loss.
""") | edits(by_torch, """
fixed_share: label_smoothing=smoothing → label_smoothing=0.1
    The share is always 0.1. Is it a number of your own, or the chapter's `eps`, which the notebook
    still knows? Use `smoothing`.
""") | edits(by_target, """
over_the_others: smoothing / classes → smoothing / (classes - 1)
and: += → =
    The share is spread over the K − 1 wrong classes. Label smoothing as in the paper and in PyTorch
    spreads it over all K: the right class gets ε/K of it back.
label_overwritten: += → =
    The right class gets 1 − ε, and its part ε/K of the spread share is lost: the target adds up to
    less than 1. Add the two.
mean_over_everything: .sum(dim=1).mean() → .mean()
    The loss is K times too small: it is averaged over images *and* classes. Add up over the classes
    of an image (the weights of the target add up to 1 already), and average over the images.
""")  # fmt: skip


def probe(answer):
    def near(run):
        return lambda: run().round(decimals=5)

    logits, labels = draw(5, 4), torch.tensor([3, 1, 0, 2, 3])
    given = [(logits, labels, s) for s in (0.0, 0.1, 0.5)] + [(300 * logits, labels, 0.2)]
    return [near(returns(answer, *g)) for g in given] + [near(gradient(answer, *given[2]))]


EXERCISE = Exercise(
    name="smooth_cross_entropy",
    chapter="07_training",
    task="smooth_cross_entropy(logits, labels, smoothing) -> a tensor with one number: the mean "
    "loss of logits (B, K) and labels (B,), where a share `smoothing` of each target is spread "
    "over all K classes",
    reference=smooth_cross_entropy,
    cases=cases,
    mutants=MUTANTS,
    excluded=["torch.nn.functional.cross_entropy"],
    accepted=[by_torch, by_target, by_float32_target, by_gather],
    probe=probe,
)
