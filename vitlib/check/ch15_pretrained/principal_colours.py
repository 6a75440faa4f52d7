"""15.3 principal_colours: three principal components of the patch tokens, as colours."""

import torch

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers, single
from vitlib.check.probing import changes, draw, in_single, returns


def principal_colours(tokens):
    centred = tokens - tokens.mean(dim=0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    parts = centred @ directions[:3].T  # (N, 3)
    far = parts.abs().argmax(dim=0)
    parts = parts * parts[far, range(3)].sign()
    low, high = parts.amin(dim=0), parts.amax(dim=0)
    return (parts - low) / (high - low)


def by_covariance(tokens):
    centred = tokens - tokens.mean(dim=0, keepdim=True)
    _, vectors = torch.linalg.eigh(centred.T @ centred)  # in rising order
    columns = []
    for i in (-1, -2, -3):
        part = centred @ vectors[:, i]
        if part.max() < -part.min():
            part = -part
        columns.append((part - part.min()) / (part.max() - part.min()))
    return torch.stack(columns, dim=1)


def by_left_vectors(tokens):
    left = torch.linalg.svd(tokens - tokens.mean(0), full_matrices=False).U[:, :3]
    left = torch.where(left.amax(0) > -left.amin(0), left, -left)
    left = left - left.amin(0)
    return left / left.amax(0)


def cases(answer) -> Cases:
    def drawn(count, width, seed):
        spread = torch.linspace(3, 0.5, width, dtype=torch.float64)
        return numbers(count, width, seed=seed) * spread + 2 * numbers(width, seed=seed + 1)

    for count, width, seed in ((12, 5, 0), (7, 9, 3), (20, 4, 6), (9, 3, 9)):
        yield (
            f"{count} tokens of {width} numbers",
            lambda c=count, w=width, s=seed: single(call(answer, drawn(c, w, s))),
        )
    far = drawn(15, 6, 12) + 30
    yield "tokens far from 0", lambda: single(call(answer, far))


MUTANTS = edits(principal_colours, """
not_centred: centred = tokens - tokens.mean(dim=0) → centred = tokens
    The mean is not subtracted. The first direction then points from 0 to the mean of the tokens,
    and says what all of them share, not how they differ.
centred_by_token: tokens.mean(dim=0) → tokens.mean(dim=1, keepdim=True)
    Each token has its own mean subtracted. It is the mean *token* that goes, channel by channel:
    dim=0.
first_channels: parts = centred @ directions[:3].T  # (N, 3) → parts = centred[:, :3]
    These are the first three channels. Principal components are the three directions, mixtures of
    all channels, in which the tokens differ most.
last_directions: directions[:3] → directions[-3:]
    These are the directions in which the tokens differ *least*. The singular values come in falling
    order: take the first three.
second_to_fourth: directions[:3] → directions[[0, 2, 1]]
    The second and the third component have changed places. Keep the order of the singular values.
reversed: directions[:3].T → directions[:3].flip(0).T
    The components come in rising order, so that the first one is blue instead of red. The largest
    comes first. (eigh sorts the other way round than svd.)
signs_left: parts = parts * parts[far, range(3)].sign() →
    The signs are left as they came. A direction and its opposite are equally good, and the library
    picks one: turn each component so that its largest value in size is positive.
signs_opposite: range(3)].sign() → range(3)].sign().neg()
    The components are turned the wrong way, or the colours are turned over, which is the same: the
    value that is largest in size should be positive, and the smallest is subtracted from all.
one_sign: parts[far, range(3)].sign() → parts[far[0], 0].sign()
    All three components are turned by the sign of the first. Each has a sign of its own.
sign_of_the_first_token: parts[far, range(3)].sign() → parts[0].sign()
    The first token decides about the sign. The token with the value that is largest in size should.
sizes: parts = parts * parts[far, range(3)].sign() → parts = parts.abs()
    The signs are thrown away, so that both ends of a component get one colour. Turn the whole
    component instead.
one_range: parts.amin(dim=0), parts.amax(dim=0) → parts.min(), parts.max()
    All three components share one range, and the second and third look grey. Each runs from 0 to 1:
    dim=0.
range_by_token: parts.amin(dim=0), parts.amax(dim=0) →
→ parts.amin(dim=1, keepdim=True), parts.amax(dim=1, keepdim=True)
    Each *token* is stretched from 0 to 1. Each component should be: dim=0.
not_moved: (parts - low) / (high - low) → parts / (high - low)
    The components are divided by their range, but not moved: the smallest value is negative.
    Subtract it first.
not_divided: (parts - low) / (high - low) → parts - low
    The smallest value is 0, but the largest is not 1. Divide by the range.
divided_by_the_largest: / (high - low) → / high
    What is divided has already been moved by `low`, so its largest value is high − low.
cut_off: (parts - low) / (high - low) → parts.clamp(0, 1)
    The components are cut off at 0 and 1. Stretch them: subtract the smallest, divide by the range.
squashed: (parts - low) / (high - low) → parts.sigmoid()
    The components go through a sigmoid. Stretch them: subtract the smallest, divide by the range.
minus_one_to_one: (parts - low) / (high - low) → 2 * (parts - low) / (high - low) - 1
    The components run from −1 to 1. A colour runs from 0 to 1.
bytes: (parts - low) / (high - low) → 255 * (parts - low) / (high - low)
    The components run from 0 to 255. Asked for is 0 to 1.
channels_first: return (parts - low) / (high - low) → return ((parts - low) / (high - low)).T
    The result is (3, N). One row per token is wanted, (N, 3).
normalised: centred @ → (centred / centred.norm(dim=-1, keepdim=True)) @
    The tokens are brought to one length before they are projected. Project them as they are.
standardised: centred = tokens - tokens.mean(dim=0) →
→ centred = (tokens - tokens.mean(dim=0)) / tokens.std(dim=0)
    Each channel is divided by its deviation. Principal components are asked for as the tokens are:
    only the mean is subtracted.
two_components: directions[:3].T → directions[:2].T
and: range(3) → range(2)
    Two components came back. A colour takes three.
""")  # fmt: skip


def probe(answer):
    def drawn(count, width, seed):
        return draw(count, width, seed=seed) * torch.linspace(0.4, 2, width) + draw(width, seed=9)

    given = [drawn(11, 6, 0), drawn(6, 8, 2), drawn(16, 3, 4), drawn(8, 5, 6) + 20]
    return [in_single(returns(answer, tokens)) for tokens in given] + [changes(answer, given[0])]


EXERCISE = Exercise(
    name="principal_colours",
    chapter="15_pretrained",
    task="principal_colours(tokens): (N, D) -> (N, 3), the first three principal components of the "
    "tokens, each turned so that its value largest in size is positive, then stretched from 0 to 1",
    reference=principal_colours,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_covariance, by_left_vectors],
    probe=probe,
)
