"""12.7 read_every_layer: the logit lens."""

from functools import partial

import torch
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, fill, numbers
from vitlib.check.probing import draw


def read_every_layer(intermediates, norm, head):
    layers = []
    for x in intermediates:
        layers.append(head(norm(x)[:, 0]).softmax(dim=-1))
    return torch.stack(layers, dim=1)


def all_at_once(intermediates, norm, head):
    stacked = torch.stack(list(intermediates))[:, :, 0]  # (L, B, D)
    return head(norm(stacked)).softmax(dim=-1).transpose(0, 1)


def by_exponentials(intermediates, norm, head):
    rows = [head(norm(tokens)[:, 0]) for tokens in intermediates]
    powers = torch.stack(rows, 1).exp()
    return powers / powers.sum(dim=2, keepdim=True)


def cases(answer) -> Cases:
    def run(B, L, T, D, K):
        norm, head = fill(nn.LayerNorm(D)), fill(nn.Linear(D, K), seed=1)
        tokens = [3 * numbers(B, T, D, seed=i) + 0.5 for i in range(L)]
        result = call(partial(answer, tokens), norm, head)
        return result.detach() if isinstance(result, torch.Tensor) else result

    yield "3 layers, 2 images, 4 tokens, 5 classes", lambda: run(2, 3, 4, 6, 5)
    yield "as many layers as images and classes", lambda: run(3, 3, 2, 4, 3)
    yield "one layer, one image", lambda: run(1, 1, 3, 5, 2)


MUTANTS = edits(read_every_layer, """
no_norm: norm(x) → x
    The final norm is missing. The head has only ever seen normalised tokens; before the norm they
    are of another size, another for each layer. norm(x), then head.
norm_for_the_last_only: norm(x) → (norm(x) if x is intermediates[-1] else x)
    Only the last layer is normalised. To the head, each layer should look like the last one: norm
    for all of them.
mean_of_all_tokens: [:, 0] → .mean(dim=1)
    You read the mean of all tokens. This model's head reads token 0, the class token.
mean_of_the_patches: [:, 0] → [:, 1:].mean(dim=1)
    You read the mean of the patches, as models without a class token do. This model's head reads
    token 0.
log_probabilities: softmax → log_softmax
    These are logarithms of probabilities: none is above 0. softmax, not log_softmax.
first_image: norm(x)[:, 0] → norm(x[0])
    x[0] is the first *image*, with all of its tokens. The class token of every image is x[:, 0].
all_tokens: [:, 0] →
    Every token is sent through the head. It has learned to read one: token 0 of each image.
first_patch: [:, 0] → [:, 1]
    You read token 1. The class token stands first, at index 0.
logits: .softmax(dim=-1) →
    These are logits. Probabilities sum to 1 over the classes: softmax.
softmax_over_images: dim=-1 → dim=0
    The softmax runs over the images: each column sums to 1. It should run over the classes, the
    last axis.
softmax_over_layers: .softmax(dim=-1) →
and: dim=1) → dim=1).softmax(dim=1)
    The softmax runs over the layers. Each layer has its own probabilities: over the classes, the
    last axis.
last_token: [:, 0] → [:, -1]
    You read the last token, a patch. The class token stands first, at index 0.
last_layer_only: return torch.stack(layers, dim=1) → return layers[-1]
    Only the last layer comes back. All are wanted, one after the other: (B, L, K).
one_after_the_other: stack(layers, dim=1) → cat(layers, dim=0)
one_after_the_other_along_the_classes: stack(layers, dim=1) → cat(layers, dim=1)
    The layers stand in one axis with something else. torch.stack makes a new axis for them,
    torch.cat does not.
reshaped: torch.stack(layers, dim=1) →
→ torch.stack(layers).reshape(len(layers[0]), len(layers), -1)
    reshape does not exchange axes: it lays the same row of numbers out anew, and images and layers
    are mixed up. Stack along axis 1, or transpose.
norm_of_your_own: norm(x) → torch.nn.functional.layer_norm(x, x.shape[-1:])
    The tokens are normalised, but not by the model's `norm`: that has a scale and a shift that it
    has learned. Call norm(x).
length_one: norm(x) → torch.nn.functional.normalize(x, dim=-1)
    The tokens are divided by their lengths. The model's `norm` is another thing, with a scale and a
    shift that it has learned. Call norm(x).
differences: in intermediates →
→ in [b - a for a, b in zip([0 * intermediates[0], *intermediates], intermediates)]
    You read what each block has *added*. The tokens after each block are asked for, as they stand
    in the list.
mean_of_the_layers: return torch.stack(layers, dim=1) →
→ return head(norm(torch.stack(intermediates).mean(dim=0))[:, 0]).softmax(dim=-1)
    The layers are averaged. Each is read for itself: (B, L, K).
layers_last: stack(layers, dim=1) → stack(layers, dim=2)
    The layers stand behind the classes: (B, K, L). Stack them along axis 1.
exponentials: softmax(dim=-1) → exp()
    These are exponentials. Probabilities sum to 1: softmax divides by the sum over the classes.
norm_twice: norm(x) → norm(norm(x))
    The norm is applied twice. The tokens in the list have gone through none: once for each.
head_before_norm: head(norm(x)[:, 0]) → norm(head(x)[:, 0])
    Head and norm have changed places. The norm comes first: head(norm(x)).
softmax_twice: .softmax(dim=-1) → .softmax(dim=-1).softmax(dim=-1)
    The softmax is taken twice, which makes the probabilities nearly equal. Once is enough.
sigmoid: softmax(dim=-1) → sigmoid()
    sigmoid looks at each class for itself, and the numbers do not sum to 1. Probabilities of
    classes that exclude each other: softmax.
classes: softmax → argmax
    These are the classes with the largest logit. Probabilities are asked for, one for each class.
backwards: stack(layers, → stack(layers[::-1],
    The layers run backwards. Keep the order of the list.
layers_first: dim=1 → dim=0
    The layers stand before the images: (L, B, K). Stack them along axis 1.
added_up: in intermediates → in torch.stack(intermediates).cumsum(dim=0)
    The layers are added up. That has been done already: what comes out of a block contains what
    went in (the residual path).
""")  # fmt: skip


def probe(answer):
    def run(B, L, T, D, K):
        torch.manual_seed(2)
        norm, head = nn.LayerNorm(D).double(), nn.Linear(D, K).double()
        with torch.no_grad():
            for p in [*norm.parameters(), *head.parameters()]:
                p.copy_(draw(*p.shape, seed=p.numel()))
            return answer([2 * draw(B, T, D, seed=i) + 1 for i in range(L)], norm, head)

    return [partial(run, *g) for g in [(3, 2, 4, 5, 6), (1, 4, 2, 3, 2), (2, 2, 3, 4, 2)]]


EXERCISE = Exercise(
    name="read_every_layer",
    chapter="12_attention_maps",
    task="read_every_layer(intermediates, norm, head) -> (B, L, K): class probabilities read off "
    "the class token (token 0) of each of the L tensors (B, T, D), through the norm and the head",
    reference=read_every_layer,
    cases=cases,
    mutants=MUTANTS,
    accepted=[all_at_once, by_exponentials],
    probe=probe,
)
