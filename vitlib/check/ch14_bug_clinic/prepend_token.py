"""14.4 prepend_token: a class token for each row of the batch."""

import torch
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, build, call, fill, numbers
from vitlib.check.probing import draw, filled


class Tokens(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))

    def forward(self, patches):
        """(B, N, D) -> (B, 1 + N, D)"""
        return torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)


class BatchSizeIgnored(nn.Module):
    def __init__(self, dim, batch_size=32):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))

    def forward(self, patches):
        return torch.cat([self.cls_token.repeat(patches.shape[0], 1, 1), patches], dim=1)


class AsVector(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(dim))

    def forward(self, patches):
        return torch.cat([self.cls_token.expand_as(patches[:, :1]), patches], dim=1)


class ByEmbedding(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.cls_token = nn.Embedding(1, dim)

    def forward(self, patches):
        first = torch.zeros(len(patches), 1, dtype=torch.long)
        return torch.cat([self.cls_token(first), patches], dim=1)


def cases(answer) -> Cases:
    def joined(images):
        return call(fill(build(answer, 5)), numbers(images, 4, 5))

    def gradient():
        module = fill(build(answer, 5))
        out = call(module, numbers(32, 4, 5))
        if out.requires_grad:
            (out * numbers(*out.shape, seed=1)).sum().backward()
        found = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
        return torch.cat(found) if found else "none"

    yield "7 images of 4 tokens, D = 5, where 32 come in training", lambda: joined(7)
    yield "one image", lambda: joined(1)
    yield "32 images", lambda: joined(32)
    yield "40 images", lambda: joined(40)
    yield "the gradient of what is learned", gradient
    yield (
        "the count of learned numbers",
        lambda: sum(p.numel() for p in build(answer, 5).parameters()),
    )


AS_IT_WAS = """torch.zeros(1, 1, dim) → torch.zeros(32, 1, dim)
and: .expand(len(patches), -1, -1)"""
MUTANTS = edits(Tokens, f"""
unchanged: {AS_IT_WAS} →
    The symptom is still there: a batch of another size than in training fails, and so does an image
    alone. And where it runs, what an image is given depends on its place in the batch:
    `check.batch_independence(model, images)` measures that.
first_rows: {AS_IT_WAS} → [: len(patches)]
    A smaller batch no longer fails, but each row of the batch still learns a token of its own, and
    an image gets another one at another place.
rows_in_turn: {AS_IT_WAS} → [torch.arange(len(patches)) % 32]
    No batch fails any more, but each row of the batch still learns a token of its own. The class
    token is the same for all images.
first_for_all: {AS_IT_WAS} → [:1].expand(len(patches), -1, -1)
    All images get the first of the tokens, which is right, and the others stay in the model: they
    are counted, saved and never used.
mean: {AS_IT_WAS} → .mean(0, keepdim=True).expand(len(patches), -1, -1)
    All images get the mean of the tokens. One vector would do: the model learns many numbers for
    it, each with a fraction of the gradient.
detached: .expand( → .detach().expand(
detached_mean: {AS_IT_WAS} → .detach().mean(0, keepdim=True).expand(len(patches), -1, -1)
    Nobody learns the token any more: detach cuts its gradient.
no_parameter: nn.Parameter(torch.zeros(1, 1, dim)) → torch.zeros(1, 1, dim)
    The token is a plain tensor now: it is not in parameters(), and no optimiser sees it.
in_place_of_a_patch: patches], dim=1) → patches[:, 1:]], dim=1)
    The class token replaces the first patch, and that corner of the image is lost. It is one more
    token: (B, 1 + N, D).
added: torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1) →
→ patches + self.cls_token
    The class token is added to every patch. It is a token of its own, in front of them.
not_expanded: .expand(len(patches), -1, -1) →
    There is one class token, and torch.cat does not broadcast: expand it to the batch first.
expanded_to_the_tokens: .expand(len(patches), -1, -1) → .expand(-1, patches.shape[1], -1)
and: dim=1 → dim=0
    The class token is joined along axis 0, as one more image. It is one more token of every image:
    dim=1.
one_for_each_patch: .expand(len(patches), -1, -1) → .expand(len(patches), patches.shape[1], -1)
    There are as many class tokens as patches. There should be one in front of each image.
at_the_end: [self.cls_token.expand(len(patches), -1, -1), patches] →
→ [patches, self.cls_token.expand(len(patches), -1, -1)]
    The class token now stands behind the patches. A head that reads token 0 would read a patch.
""")  # fmt: skip


def probe(answer):
    def learned():
        module = answer(6)
        return sorted(p.numel() for p in module.parameters())

    def gradient():
        module = filled(answer, 6)
        out = module(draw(3, 2, 6))
        (out * draw(*out.shape, seed=2)).sum().backward()
        return [p.grad.flatten() for p in module.parameters()]

    return [*[lambda b=b: filled(answer, 6)(draw(b, 3, 6)) for b in (1, 5, 33)], learned, gradient]


EXERCISE = Exercise(
    name="prepend_token",
    chapter="14_bug_clinic",
    task="Tokens(dim), a module that learns a class token and puts it in front of each image's "
    "tokens, (B, N, D) -> (B, 1 + N, D), for a batch of any size",
    reference=Tokens,
    cases=cases,
    mutants=MUTANTS,
    accepted=[BatchSizeIgnored, AsVector, ByEmbedding],
    probe=probe,
)
