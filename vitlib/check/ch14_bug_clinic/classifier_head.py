"""14.7 classifier_head: right where two numbers are equal."""

from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, build, call, numbers, twin
from vitlib.check.probing import draw, forward, learned


class Head(nn.Module):
    def __init__(self, embed_dim, num_classes):
        super().__init__()
        self.num_features = embed_dim
        self.norm = nn.LayerNorm(embed_dim)
        self.fc = nn.Linear(self.num_features, num_classes)

    def forward(self, x):
        """(B, D) -> (B, K)"""
        return self.fc(self.norm(x))


class FromTheArgument(nn.Module):
    def __init__(self, embed_dim, num_classes):
        super().__init__()
        self.num_features, self.num_classes = embed_dim, num_classes
        self.norm = nn.LayerNorm(embed_dim)
        self.fc = nn.Linear(embed_dim, num_classes)

    def forward(self, x):
        return self.fc(self.norm(x))


class FromTheNorm(nn.Module):
    def __init__(self, embed_dim, num_classes):
        super().__init__()
        self.norm = nn.LayerNorm(embed_dim)
        self.num_features = self.norm.normalized_shape[0]
        self.fc = nn.Linear(self.num_features, num_classes)

    def forward(self, x):
        return self.fc(self.norm(x))


class AsProperty(nn.Module):
    def __init__(self, embed_dim, num_classes):
        super().__init__()
        self.norm = nn.LayerNorm(embed_dim)
        self.fc = nn.Linear(embed_dim, num_classes)

    @property
    def num_features(self):
        return self.fc.in_features

    def forward(self, x):
        return self.fc(self.norm(x))


def cases(answer) -> Cases:
    def shape(D, K):
        return tuple(call(build(answer, D, K).double(), numbers(2, D)).shape)

    def logits(D, K):
        return call(twin(answer, Head, D, K), numbers(3, D))

    yield "Head(64, 10) on 2 images", lambda: shape(64, 10)
    yield "Head(6, 9) on 2 images", lambda: shape(6, 9)
    yield "the numbers of Head(7, 4)", lambda: logits(7, 4)
    yield "the numbers of Head(5, 5)", lambda: logits(5, 5)
    yield "Head(7, 4).num_features", lambda: build(answer, 7, 4).num_features


MUTANTS = edits(Head, """
unchanged: self.num_features = embed_dim → self.num_features = num_classes
    The symptom is still there: it works if there are as many classes as channels, and for no other
    number. Try sizes of which no two are equal.
features_left: self.num_features = embed_dim → self.num_features = num_classes
and: nn.Linear(self.num_features → nn.Linear(embed_dim
    The head computes the right logits now, and num_features, which others read, is still the number
    of classes.
features_gone: self.num_features = embed_dim → pass
and: nn.Linear(self.num_features → nn.Linear(embed_dim
    The head computes the right logits now, and num_features is gone. Whoever builds something on
    the features reads it: it should say how wide they are.
swapped: nn.Linear(self.num_features, num_classes) → nn.Linear(num_classes, self.num_features)
    nn.Linear takes the width that comes in first, and then the one that goes out.
square: nn.Linear(self.num_features, num_classes) → nn.Linear(embed_dim, embed_dim)
    Now there are as many logits as channels. There should be one for each class.
square_with_classes: nn.Linear(self.num_features, num_classes) →
→ nn.Linear(num_classes, num_classes)
and: self.norm(x) → self.norm(x)[:, : self.fc.in_features]
    The features are cut to as many as there are classes. The error is gone, and so are channels
    that the norm has just computed.
no_norm: self.fc(self.norm(x)) → self.fc(x)
    The norm is no longer applied. It was not in the way: what it returns is as wide as its input.
norm_of_the_logits: nn.LayerNorm(embed_dim) → nn.LayerNorm(num_classes)
and: self.fc(self.norm(x)) → self.norm(self.fc(x))
    You normalise the logits. The norm belongs before the linear layer, on the features.
""")  # fmt: skip


def probe(answer):
    return [
        learned(answer, 9, 4),
        forward(answer, (9, 4), draw(2, 9)),
        forward(answer, (3, 8), draw(4, 3)),
        lambda: answer(6, 3).num_features,
    ]


EXERCISE = Exercise(
    name="classifier_head",
    chapter="14_bug_clinic",
    task="Head(embed_dim, num_classes), a module: a norm and a linear layer, (B, D) -> (B, K); its "
    "num_features says how wide the features are",
    reference=Head,
    cases=cases,
    mutants=MUTANTS,
    accepted=[FromTheArgument, FromTheNorm, AsProperty],
    probe=probe,
)
