"""How much frozen features already know: `fit_probe`.

    features of the training pictures -> nearest neighbours, and logistic regression -> accuracy
    logistic regression -> a linear head -> the model as a classifier

Both leave the model as it is, so that the features are computed once (features.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vitlib.checkpoints.native import FilePath
from vitlib.data import ImageData
from vitlib.data.sets import stratified
from vitlib.model import VisionTransformer
from vitlib.train.evaluation import Evaluation
from vitlib.train.features import extract_features
from vitlib.train.frozen import heads_of
from vitlib.wording import check_count

# Those of DINO's evaluation, facebookresearch/dino at 04c0ad9, eval_knn.py.
NEIGHBOURS, _TEMPERATURE = 20, 0.07
_STRENGTHS = tuple(10.0**power for power in range(-5, 3))  # scikit-learn's C, weakest first
_HELD_OUT = 0.2  # share of the training pictures that chooses among them


@dataclass(frozen=True)
class Probe:
    """What `fit_probe` found.

    Attributes:
        neighbours: answers of the nearest neighbours to the test pictures. The logits are the
            logarithms of the neighbours' shares of the votes, no class less than one in a million.
        logistic: answers of logistic regression to the test pictures.
        strength: scikit-learn's C that was chosen, the inverse of the penalty on large weights.
        head: logistic regression as a linear layer, from features (B, D) to logits (B, K).
        classes: their names.
    """

    neighbours: Evaluation
    logistic: Evaluation
    strength: float
    head: nn.Linear
    classes: tuple[str, ...]

    def give_head(self, model: VisionTransformer) -> None:
        """Give the model that the features are of this head, in place of its own."""
        model.reset_classifier(len(self.classes))
        for head in heads_of(model):  # of a distilled model both: it answers with their mean
            head.load_state_dict(self.head.state_dict())
        model.classes = self.classes
        model.eval()


def fit_probe(
    model: nn.Module,
    data: ImageData,
    *,
    neighbours: int = NEIGHBOURS,
    seed: int = 0,
    batch_size: int = 100,
    cache: FilePath | bool = True,
    progress: bool = False,
) -> Probe:
    """Classify the test pictures of `data` by the features of a model that is not trained.

    Nearest neighbours: the `neighbours` training pictures with the largest cosine similarity s
    vote for their classes, each with the weight exp(s / 0.07). Source: Caron et al. 2021, "Emerging
    Properties in Self-Supervised Vision Transformers", section 4, and its code.

    Logistic regression: on features with mean 0 and variance 1 over the training pictures. A fifth
    of these, chosen by `seed`, is kept back to choose the penalty by the log-loss; then all are
    fitted.

    `batch_size`, `cache` and `progress` are those of `extract_features`.
    Raises what that raises; ValueError for a class with fewer than two training pictures, for
    features that are not finite, and for `neighbours` below 1.
    """
    check_count("neighbours", neighbours)
    labels, classes = data.train.labels, data.classes
    counts = torch.bincount(labels, minlength=len(classes))
    if (counts < 2).any():
        few = int((counts < 2).nonzero()[0])
        raise ValueError(
            f"class {classes[few]!r} has {int(counts[few])} training "
            f"picture{'' if counts[few] == 1 else 's'}, and a probe needs two or more of each: one "
            "to learn from, one to choose the penalty by"
        )
    train, test = (
        extract_features(model, part, batch_size=batch_size, cache=cache, progress=progress)
        for part in (data.train, data.test)
    )
    for part, features in (("training", train), ("test", test)):
        if not features.isfinite().all():
            raise ValueError(f"features of the {part} pictures hold NaN or infinity")
    votes = weigh_neighbours(train, labels, test, min(neighbours, len(train)), len(classes))
    head, strength = _regress(train, labels, classes, seed)
    with torch.no_grad():
        answers = head(test)
    return Probe(
        neighbours=Evaluation.of(votes.clamp(min=1e-6).log(), data.test.labels),
        logistic=Evaluation.of(answers, data.test.labels),
        strength=strength,
        head=head,
        classes=classes,
    )


def weigh_neighbours(
    train: Float[Tensor, "n D"],
    labels: Int64[Tensor, "n"],
    test: Float[Tensor, "m D"],
    neighbours: int,
    classes: int,
) -> Float[Tensor, "m K"]:
    """Each class's share of the votes."""
    from sklearn.neighbors import KNeighborsClassifier

    found = KNeighborsClassifier(
        neighbours, metric="cosine",
        weights=lambda distance: np.exp(-distance / _TEMPERATURE),  # exp(s / T), but for a factor
    ).fit(train.numpy(), labels.numpy())  # fmt: skip
    votes = torch.zeros(len(test), classes)
    votes[:, torch.from_numpy(found.classes_)] = torch.from_numpy(
        found.predict_proba(test.numpy())
    ).float()
    return votes


def _regress(
    features: Float[Tensor, "n D"], labels: Int64[Tensor, "n"], classes: Sequence[str], seed: int
) -> tuple[nn.Linear, float]:
    """Logistic regression as a linear layer, and the C that was chosen."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features.numpy())
    inputs, targets = scaler.transform(features.numpy()), labels.numpy()
    count = max(1, round(_HELD_OUT * len(targets)))
    rest, held = stratified(targets, count, seed, classes)

    def fitted(strength: float, index: np.ndarray | slice) -> LogisticRegression:
        regression = LogisticRegression(C=strength, max_iter=2000)
        return regression.fit(inputs[index], targets[index])

    def loss(strength: float) -> float:
        probabilities = fitted(strength, rest).predict_proba(inputs[held])
        return float(log_loss(targets[held], probabilities, labels=range(len(classes))))

    chosen = min(_STRENGTHS, key=loss)
    regression = fitted(chosen, slice(None))
    weight, bias = regression.coef_, regression.intercept_  # (K, D), (K,)
    if len(classes) == 2:  # one row, for the second class
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / scaler.scale_  # of features as they are
    bias = bias - weight @ scaler.mean_
    head = nn.Linear(features.shape[1], len(classes))
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))
    return head, chosen
