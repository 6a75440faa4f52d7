"""5.5 init_tokens: how large the learned tokens start."""

import math
from copy import deepcopy

import torch
from torch import nn

from vitlib.check.ch05_model._filled_in_place import filled_in_place
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise


def init_tokens(model):
    for token in (model.cls_token, model.pos_embed):
        nn.init.normal_(token, std=0.02)


@torch.no_grad()
def in_place(model):
    for token in (model.cls_token, model.pos_embed):
        token.copy_(torch.randn_like(token) * 0.02)


def truncated(model):
    std = 0.02
    for name, parameter in model.named_parameters():
        if name in ("cls_token", "pos_embed"):
            nn.init.trunc_normal_(parameter, std=std, a=-2 * std, b=2 * std)


class WithTokens(nn.Module):
    """Enough numbers that a deviation can be told, and parameters that must be left alone."""

    def __init__(self):
        super().__init__()
        start = torch.linspace(-3, 3, 512)  # not 0, so that zeros are seen as written
        self.cls_token = nn.Parameter(start.clone()[None, None])
        self.dist_token = nn.Parameter(start.clone()[None, None])
        self.pos_embed = nn.Parameter(start.repeat(1, 50, 1))
        self.patch_embed = nn.Linear(4, 512)
        self.head = nn.Linear(512, 3)


def about(deviation):
    """A deviation in words, so that two honest draws give the same observation."""
    value = deviation.item()
    if 0.0155 < value < 0.0225:  # a normal truncated at two deviations has 0.0176
        return "about 0.02"
    said = f"{value:.1g}"
    if said == "0.02":
        return "above 0.02" if value > 0.02 else "below 0.02"
    return f"about {said}" if value else "0"


def cases(answer) -> Cases:
    def after(observe):
        model = WithTokens()
        before, values = dict(model.named_parameters()), deepcopy(model.state_dict())
        filled_in_place(answer, model)
        return observe(model, before, values)

    def centred(model, *_):
        return [bool(t.mean().abs() <= 0.2 * t.std()) for t in (model.cls_token, model.pos_embed)]

    def tails(model, *_):  # a normal, truncated at two deviations or not, has some
        return bool((model.pos_embed.abs() > 0.036).any())

    def near(model, *_):  # a uniform distribution has 0.5, a normal one 0.4
        return round((model.pos_embed.abs() < 0.01).double().mean().item(), 1)

    def trainable(model, *_):
        return [t.requires_grad and t.is_leaf for t in (model.cls_token, model.pos_embed)]

    def touched(model, _, values):
        rest = values.keys() - {"cls_token", "pos_embed"}
        now = model.state_dict()
        return sorted(n for n in rest if n not in now or not torch.equal(now[n], values[n]))

    def same(model, before, _):
        now = dict(model.named_parameters())
        return all(name in now and now[name] is p for name, p in before.items())

    yield "the deviation of pos_embed", lambda: after(lambda m, *_: about(m.pos_embed.std()))
    yield "the deviation of cls_token", lambda: after(lambda m, *_: about(m.cls_token.std()))
    yield "whether both means are near 0", lambda: after(centred)
    yield "whether some of pos_embed is beyond 0.036", lambda: after(tails)
    yield "the share of pos_embed that is nearer to 0 than 0.01", lambda: after(near)

    def over_positions(model, *_):
        table = model.pos_embed
        return f"{about(table.std(dim=1, correction=0).mean())} over {table.shape[1]} positions"

    yield "the deviation of one channel", lambda: after(over_positions)
    yield "whether the parameters are still the same ones", lambda: after(same)
    yield "whether they can still be trained", lambda: after(trainable)
    yield "which other parameters have changed", lambda: after(touched)


MUTANTS = edits(init_tokens, """
variance_for_deviation: 0.02 → 0.02**0.5
    The *variance* is 0.02, so the deviation is 0.14. `std` and the factor of a randn are
    deviations.
ten_times: 0.02 → 0.2
    The deviation is 0.2. It should be 0.02, a tenth of that.
a_tenth: 0.02 → 0.002
    The deviation is 0.002. It should be 0.02, ten times that.
squared: 0.02 → 0.02**2
    The deviation is 0.02 squared, 0.0004: `std` takes the deviation, not the variance.
uniform: normal_(token, std=0.02) → uniform_(token, -0.02, 0.02)
    The numbers are uniform between −0.02 and 0.02, which has a deviation of 0.0115. Use a normal
    distribution.
uniform_class_token: nn.init.normal_(token, std=0.02) → nn.init.normal_(token, std=0.02)
→ if token is model.cls_token:
→     nn.init.uniform_(token, -0.02, 0.02)
    cls_token is uniform between −0.02 and 0.02, which has a deviation of 0.0115. Use a normal
    distribution, as for pos_embed.
class_token_of_deviation_one: nn.init.normal_(token, std=0.02) → nn.init.normal_(token, std=0.02)
→ if token is model.cls_token:
→     nn.init.normal_(token)
    cls_token starts with deviation 1. It should have 0.02, as pos_embed.
positions_of_deviation_one: nn.init.normal_(token, std=0.02) → nn.init.normal_(token, std=0.02)
→ if token is model.pos_embed:
→     nn.init.normal_(token)
    pos_embed starts with deviation 1. It should have 0.02, as cls_token.
class_token_tiny: nn.init.normal_(token, std=0.02) → nn.init.normal_(token, std=0.02)
→ if token is model.cls_token:
→     nn.init.normal_(token, std=1e-6)
    cls_token starts with 1e-6, as in timm today. Here both should have a deviation of 0.02.
uniform_of_that_deviation: normal_(token, std=0.02) → uniform_(token, -0.0346, 0.0346)
    The deviation is right, but no number is larger than 0.035: they seem to be uniform. In a normal
    distribution nearly one number in ten lies beyond that.
without_gradients: normal_(token, → normal_(token.requires_grad_(False),
    The numbers are right, but the tokens take no gradients any more: requires_grad is off, and they
    would stay at their start for good.
mean_not_zero: std=0.02 → mean=0.02, std=0.02
    The numbers have the right spread, but around a mean that is not 0: all positions share a common
    part that tells nothing.
class_token_forgotten: (model.cls_token, model.pos_embed) → [model.pos_embed]
    pos_embed is right, and cls_token is still what it was.
positions_forgotten: (model.cls_token, model.pos_embed) → [model.cls_token]
    cls_token is right, and pos_embed is still what it was.
nothing_written: nn.init.normal_(token, std=0.02) → token = torch.randn_like(token) * 0.02
    Nothing in the model has changed. A tensor that you make and give a name of your own does not
    reach the model: write into model.cls_token and model.pos_embed.
distillation_token_too: (model.cls_token, model.pos_embed) → (
→     model.cls_token,
→     model.pos_embed,
→     model.dist_token,
→ )
    The distillation token is filled as well. Touch only cls_token and pos_embed.
every_parameter: (model.cls_token, model.pos_embed) → model.parameters()
    All parameters of the model are filled, the head among them. Touch only cls_token and pos_embed.
zeros: normal_(token, std=0.02) → zeros_(token)
    Both are all 0 now. They should start from random numbers with a deviation of 0.02.
class_token_of_zeros: nn.init.normal_(token, std=0.02) →
→ nn.init.normal_(token, std=0.02)
→ if token is model.cls_token:
→     nn.init.zeros_(token)
    cls_token is all 0. It should start from random numbers with a deviation of 0.02, as pos_embed
    does.
positions_of_zeros: nn.init.normal_(token, std=0.02) →
→ nn.init.normal_(token, std=0.02)
→ if token is model.pos_embed:
→     nn.init.zeros_(token)
    pos_embed is all 0. It should start from random numbers with a deviation of 0.02, as cls_token
    does.
one_number: normal_(token, std=0.02) → constant_(token, 0.02)
    Every number is 0.02. That is the deviation that random numbers around 0 should have.
by_xavier: normal_(token, std=0.02) → xavier_normal_(token)
    Xavier's rule takes the deviation from the shape. It is meant for matrices; here the deviation
    is 0.02, whatever the shape.
""") | edits(in_place, """
deviation_one:  * 0.02 →
    The deviation is 1, as torch.randn has it, fifty times too large. Next to such positions the
    patches are a whisper: at the start, the class token that the head reads hardly depends on the
    image. (If you wrote nn.init.normal_(p, 0.02): its second argument is the mean. Write std=0.02.)
written_while_recorded: @torch.no_grad() → @torch.enable_grad()
    PyTorch lets nobody write into a parameter while it records gradients. Do it inside
    `with torch.no_grad():`, or use a function of nn.init, which sees to that itself.
only_positive: randn_like(token) → randn_like(token).abs()
    All numbers are positive. They should lie around 0, on both sides.
one_row_in_place_of_all: token.copy_(torch.randn_like(token) * 0.02) →
→ token.data = torch.randn(1, 1, token.shape[-1]) * 0.02
    pos_embed has another shape than before, (1, 1, D). It has a vector for each of T places, and
    keeps its shape.
linear_layers_only: for token in (model.cls_token, model.pos_embed): →
→ for token in [p for n, p in model.named_parameters() if n.endswith(".weight")]:
    The weights of the layers are filled, and cls_token and pos_embed are as they were. It is the
    other way round: touch only the two tokens.
old_numbers_scaled: token.copy_(torch.randn_like(token) * 0.02) → token.mul_(0.02)
    The old numbers are multiplied by 0.02. Whatever they were, and if it was 0, they should become
    random numbers with a deviation of 0.02.
added_to_the_old_numbers: copy_( → add_(
    The random numbers are added to those that were there. Put them in their place.
one_vector_for_all_positions: randn_like(token) → randn_like(token[:, :1])
    All positions got the same vector, so that they tell no place from another.
""") | edits(truncated, """
by_parts_of_names: name in ("cls_token", "pos_embed") → "token" in name or "embed" in name
by_parts_of_names_of_tokens: name in ("cls_token", "pos_embed") → "cls" in name or "embed" in name
    You choose by a part of the name, and it is a part of others, too: `patch_embed.weight` has
    "embed" in it, and a distillation token "token". Compare whole names.
cut_at_one_deviation: a=-2 * std, b=2 * std → a=-std, b=std
    The normal distribution is cut off at one deviation, so that what remains has a deviation of
    0.011. Cut at two deviations or further out, or not at all.
std_for_the_mean: std=std, a=-2 * std, b=2 * std → std
    The second argument of trunc_normal_ is the mean, so 0.02 became the mean, and the deviation
    stayed near 1. Write std=0.02.
new_parameters: nn.init.trunc_normal_(parameter, std=std, a=-2 * std, b=2 * std) →
→ setattr(model, name, nn.Parameter(torch.randn_like(parameter) * std))
    The numbers are right, but they stand in new parameters. An optimiser that was built before
    holds the old ones and would train those in vain. Write into the parameters that are there.
""")  # fmt: skip


def probe(answer):
    def deviation(values):  # coarse, since two honest draws differ
        mean, deviation = values.double().mean().item(), values.double().std().item()
        if deviation < 1e-12:
            return "constant"
        return round(math.log(deviation, 1.5)), abs(mean) > 0.2 * deviation

    def after():
        torch.manual_seed(1)
        model = nn.Module()
        model.cls_token = nn.Parameter(torch.ones(1, 1, 400))
        model.pos_embed = nn.Parameter(torch.ones(1, 60, 400))
        model.head = nn.Linear(400, 2)
        model.scale = nn.Parameter(torch.ones(3))
        before, head = dict(model.named_parameters()), deepcopy(model.head)
        torch.manual_seed(2)
        answer(model)
        now = dict(model.named_parameters())
        return [
            deviation(model.cls_token.detach()),
            deviation(model.pos_embed.detach()),
            deviation(model.pos_embed.detach()[0, :, 0]),
            [now.get(n) is p and p.requires_grad and p.is_leaf for n, p in before.items()],
            bool((model.head.weight == head.weight).all() and (model.head.bias == head.bias).all()),
            model.scale.detach(),
        ]

    return [after]


EXERCISE = Exercise(
    name="init_tokens",
    chapter="05_model",
    task="init_tokens(model): model.cls_token and model.pos_embed, in place, from a normal "
    "distribution with mean 0 and deviation 0.02",
    reference=init_tokens,
    cases=cases,
    mutants=MUTANTS,
    accepted=[in_place, truncated],
    probe=probe,
)
