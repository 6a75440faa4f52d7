"""9.4 influence: which tokens a layer brings together."""

from copy import deepcopy
from functools import partial, wraps

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call, fill, numbers, single
from vitlib.check.probing import draw


def influence(layer, x):
    was_training = layer.training
    layer.eval()
    J = torch.autograd.functional.jacobian(layer, x)
    layer.train(was_training)
    J = J[0, :, :, 0]
    matrix = J.pow(2).sum(dim=(1, 3)).sqrt()
    return matrix


def row_by_row(layer, x):
    mode = layer.training
    layer.eval()
    given = x.clone().requires_grad_()
    out = layer(given)
    layer.train(mode)
    N, D = x.shape[1:]
    squares = torch.zeros(N, N)
    for i in range(N):
        for c in range(D):
            grad = torch.autograd.grad(out[0, i, c], given, retain_graph=True)[0]
            squares[i] += grad[0].pow(2).sum(dim=1)
    return squares.sqrt()


def backwards(layer, x):
    copy = deepcopy(layer).eval()
    given = x.clone().requires_grad_()
    rows = []
    for token in copy(given)[0]:
        row = 0
        for number in token:
            given.grad = None
            number.backward(retain_graph=True)
            row = row + given.grad[0].square().sum(-1)
        rows.append(row)
    return torch.stack(rows) ** 0.5


def by_func(layer, x):
    mode = layer.training
    try:
        J = torch.func.jacrev(layer.eval())(x).detach()
    finally:
        layer.train(mode)
    return torch.linalg.matrix_norm(J[0, :, :, 0].transpose(1, 2))


def by_differences(layer, x):
    copy, step = deepcopy(layer).eval(), 1e-5
    N, D = x.shape[1:]
    squares = torch.zeros(N, N)
    with torch.no_grad():
        for j in range(N):
            for c in range(D):
                there, back = x.clone(), x.clone()
                there[0, j, c] += step
                back[0, j, c] -= step
                slope = (copy(there) - copy(back)) / (2 * step)
                squares[:, j] += slope[0].pow(2).sum(dim=1)
    return squares.sqrt()


class Tokens(nn.Module):
    """Layers for N tokens of D channels; what becomes of x in them, `of` says."""

    def __init__(self, N, D, of):
        super().__init__()
        self.tokens, self.channels, self.of = nn.Linear(N, N), nn.Linear(D, D), of
        if of is normed:
            self.norm = nn.BatchNorm1d(N)

    def forward(self, x):
        if x.ndim != 3:
            raise Refused(f"the layer takes (1, N, D), and got {tuple(x.shape)}")
        return self.of(self, x)


def mixing(layer, x):
    return layer.channels(x + F.gelu(layer.tokens(2 * x.mT)).mT)


def alone(layer, x):
    return layer.channels(x).tanh()


def attention(layer, x):
    return (layer.channels(x) @ x.mT).softmax(dim=-1) @ x


def looking_back(layer, x):
    return layer.channels(x.cumsum(dim=1)).tanh()


def dropping(layer, x):
    return alone(layer, x) + F.dropout(mixing(layer, x), 1.0, layer.training)


def normed(layer, x):
    return mixing(layer, layer.norm(x))


def balanced(layer, x):
    y = mixing(layer, x)
    return y - y.mean(dim=-1, keepdim=True)


def centred(layer, x):
    return mixing(layer, x - x.mean(dim=-1, keepdim=True)) ** 2


class Given(nn.Module):
    """Holds a layer and x, so that `call` sees what becomes of x, too, its gradient included."""

    def __init__(self, layer, x):
        super().__init__()
        self.layer, self.x = layer, nn.Buffer(x)

    def __repr__(self):
        return f"layer, tensor {tuple(self.x.shape)}"


def cases(answer) -> Cases:
    @wraps(answer)
    def unpacked(given):
        return answer(given.layer, given.x)

    def run(of, N, D, training=True, frozen=False):
        layer = fill(Tokens(N, D, of))
        layer.channels.bias.requires_grad_(not frozen)
        layer(numbers(5, N, D, seed=4) + 0.5)  # so that a norm has statistics of its own
        for i, p in enumerate(layer.train(training).parameters()):
            p.grad = numbers(*p.shape, seed=20 + i) if p.requires_grad else None
        matrix = call(unpacked, Given(layer, numbers(1, N, D, seed=3)))
        if isinstance(matrix, Tensor) and matrix.requires_grad:
            raise Refused("the result needs a gradient (requires_grad=True), and it should not")
        return single(matrix)

    yield "3 tokens of 2 channels, a layer that mixes the tokens", lambda: run(mixing, 3, 2)
    yield "a layer that sees each token by itself", lambda: run(alone, 4, 3)
    yield (
        "attention among 5 tokens of 3 channels, with a frozen bias",
        lambda: run(attention, 5, 3, frozen=True),
    )
    yield "as many tokens as channels, each sees those before it", lambda: run(looking_back, 3, 3)
    yield "a layer with dropout", lambda: run(dropping, 2, 4)
    yield "the same layer in eval mode", lambda: run(dropping, 2, 4, training=False)
    yield "a layer with batch norm", lambda: run(normed, 4, 2)
    yield "a layer that takes off the mean of its output's channels", lambda: run(balanced, 2, 3)
    yield "a layer that takes off the mean of its input's channels", lambda: run(centred, 3, 4)
    yield "tokens of one channel", lambda: run(mixing, 4, 1)


MUTANTS = edits(influence, """
in_training_mode: layer.eval() → pass
    The layer runs in whichever mode it is. In training mode, dropout draws anew for each call, and
    batch norm goes by this one example and learns from it. Call layer.eval() first. (Setting
    layer.training alone does not reach the layers in it.)
asks_for_training: layer.eval() → layer.train()
    layer.train() does not train the layer, it switches to training mode, in which dropout draws and
    batch norm learns. Eval mode is asked for: layer.eval().
only_its_own_mode: layer.eval() → layer.training = False
    `layer.training = False` does not reach the layers inside: dropout and batch norm stay in
    training mode. Call layer.eval().
left_in_eval: layer.train(was_training) → pass
    The layer is left in eval mode. A training run would go on without dropout. Keep layer.training
    at the beginning, before eval(), and give it to layer.train(...) at the end.
always_training: layer.train(was_training) → layer.train()
    The layer is in training mode afterwards, also where it was in eval mode before. Keep
    layer.training at the beginning, and give it to layer.train(...) at the end.
own_mode_restored: layer.train(was_training) → layer.training = was_training
    The layers inside are left in eval mode. `layer.training = ...` does not reach them, and
    copy.copy shares them with its original. Call layer.train(was_training), or take a deepcopy.
graph_kept: functional.jacobian(layer, x) → functional.jacobian(layer, x, create_graph=True)
    The result still hangs on the graph that made it, and needs a gradient itself. Detach it, or
    leave `create_graph` out.
freezes_the_layer: layer.eval() → layer.eval().requires_grad_(False)
    The parameters are frozen afterwards (requires_grad=False), and a run that goes on would learn
    nothing more. The derivatives with respect to x do not need that.
thaws_the_layer: layer.train(was_training) → layer.train(was_training).requires_grad_()
    Every parameter is trainable afterwards (requires_grad=True), also one that was frozen. Leave
    requires_grad as it is: the derivatives with respect to x do not need it.
gradients_cleared: layer.eval() → layer.eval().zero_grad()
    The gradients that the layer had before are gone. Whoever called your function may need them:
    leave zero_grad() out. `jacobian` and torch.autograd.grad do not touch them.
x_needs_a_gradient: functional.jacobian(layer, x) → functional.jacobian(layer, x.requires_grad_())
    `x` itself has requires_grad=True afterwards. Take a copy, x.clone().requires_grad_();
    `jacobian` does not even need that.
transposed: return matrix → return matrix.T
    Rows and columns are exchanged. In entry [i, j], i is the token of the output and j that of the
    input: each row belongs to one output token.
symmetric: return matrix → return (matrix + matrix.T) / 2
    The two directions are averaged. That token i depends on token j does not mean that j depends on
    i: return the matrix as it is.
channels_by_channels: dim=(1, 3) → dim=(0, 2)
    The sum runs over the tokens, and what is left is a matrix of channels by channels. Sum over
    both axes of channels, those of length D.
tokens_out_channels_in: dim=(1, 3) → dim=(1, 2)
    The sum runs over the channels of the output and the tokens of the input. Sum over both axes of
    channels, those of length D.
channels_out_tokens_in: dim=(1, 3) → dim=(0, 3)
    The sum runs over the tokens of the output and the channels of the input. Sum over both axes of
    channels, those of length D.
output_left: dim=(1, 3) → dim=(2, 3)
    The sum runs over the whole input, tokens and channels, and only the output's axes are left.
    Keep the tokens of both, and sum over the channels of both.
batch_axes_forgotten: J = J[0, :, :, 0] →
    The derivatives have six axes, (1, N, D, 1, N, D), since the batch axis is there twice. Take
    both off first, as by J[0, :, :, 0], or count the axes anew.
batch_axes_kept: J = J[0, :, :, 0] →
and: dim=(1, 3) → dim=(2, 5)
    The numbers are right, and two axes of length 1 are left, (1, N, 1, N). Take both off: (N, N) is
    asked for.
one_batch_axis_taken_off: J = J[0, :, :, 0] → J = J[0]
    The batch axis is there twice, (1, N, D, 1, N, D), and only the first is taken off. Take off the
    other, too, as by J[0, :, :, 0].
batch_axes_forgotten_and_tokens_summed: J = J[0, :, :, 0] →
and: dim=(1, 3) → dim=(1, 4)
    The sum runs over the tokens: in (1, N, D, 1, N, D), axes 1 and 4. Sum over the channels, and
    take off both batch axes.
first_token_only: J[0, :, :, 0] → J[0][0]
    Only the derivatives of the first output token are left. Each pair of brackets takes off the
    first axis, and [:] leaves all as it is: J[0][:][0] is J[0, 0]. Write J[0, :, :, 0].
batch_axis_kept: return matrix → return matrix[None]
    An axis of length 1 is left in front. Take it off: (N, N) is asked for.
squeezed: J = J[0, :, :, 0] → J = J.squeeze()
    squeeze() removes every axis of length 1. With one channel, these are also the channels. Say
    which axes you mean, as by J[0, :, :, 0].
not_reordered: J = J[0, :, :, 0] → N, D = x.shape[1:]
→ J = J.reshape(N, N, D, D)
and: dim=(1, 3) → dim=(2, 3)
    The derivatives are reshaped to (N, N, D, D). They lie in the order (N, D, N, D), and reshape
    moves no axis. Use permute, or sum over the second and the last axis.
lengths_exchanged: J = J[0, :, :, 0] → _, D, N = x.shape
→ J = J.reshape(N, D, N, D)
    N and D are exchanged: x has the shape (1, N, D), so N is x.shape[1].
not_reordered_channels_first: J = J[0, :, :, 0] → N, D = x.shape[1:]
→ J = J.reshape(D, N, D, N)
and: dim=(1, 3) → dim=(0, 2)
    The derivatives are reshaped to (D, N, D, N). They lie in the order (N, D, N, D), and reshape
    moves no axis: the tokens are the first and the third axis.
absolute: J.pow(2).sum(dim=(1, 3)).sqrt() → J.abs().sum(dim=(1, 3))
    The absolute values of the derivatives are summed. Asked for is the square root of the sum of
    their squares.
no_root: .sqrt() →
    The square root is missing: this is the sum of the squares.
root_of_the_mean: .sum(dim → .mean(dim
    This is the root of the *mean* of the squares, smaller by a factor of D. Take the root of their
    sum.
mean_of_squares: .sum(dim=(1, 3)).sqrt() → .mean(dim=(1, 3))
    This is the mean of the squares. Asked for is the square root of their sum.
mean_of_absolute: J.pow(2).sum(dim=(1, 3)).sqrt() → J.abs().mean(dim=(1, 3))
    This is the mean of the absolute values. Asked for is the square root of the sum of the squares.
divided_by_root_d: return matrix → return matrix / x.shape[2] ** 0.5
    Your numbers are smaller by a factor of √D, as if one of the two sums over channels were a mean.
    Take the root of the sum, without a factor.
largest: J.pow(2).sum(dim=(1, 3)).sqrt() → J.abs().amax(dim=(1, 3))
    This is the largest of the D × D derivatives. All of them count: the square root of the sum of
    their squares.
largest_with_its_sign: J.pow(2).sum(dim=(1, 3)).sqrt() → J.amax(dim=(1, 3))
    This is the largest of the D × D derivatives, with its sign. All of them count: the square root
    of the sum of their squares.
signed: J.pow(2).sum(dim=(1, 3)).sqrt() → J.sum(dim=(1, 3))
signed_then_absolute: J.pow(2).sum(dim=(1, 3)).sqrt() → J.sum(dim=(1, 3)).abs()
signed_then_squared: J.pow(2).sum(dim=(1, 3)).sqrt() → J.sum(dim=(1, 3)).pow(2)
signed_then_the_root: J.pow(2).sum(dim=(1, 3)).sqrt() → J.sum(dim=(1, 3)).sqrt()
    The derivatives are added up with their signs, and cancel. First square each of them, then sum,
    then take the root.
signed_mean: J.pow(2).sum(dim=(1, 3)).sqrt() → J.mean(dim=(1, 3))
signed_mean_then_absolute: J.pow(2).sum(dim=(1, 3)).sqrt() → J.mean(dim=(1, 3)).abs()
    The derivatives are averaged with their signs, and cancel. First square each of them, then sum,
    then take the root.
spectral: J.pow(2).sum(dim=(1, 3)).sqrt() →
→ torch.linalg.matrix_norm(J, ord=2, dim=(1, 3))
    This is the largest singular value of each D × D matrix. Asked for is the root of the sum of all
    squares, which is called the Frobenius norm.
nuclear: J.pow(2).sum(dim=(1, 3)).sqrt() → torch.linalg.matrix_norm(J, ord="nuc", dim=(1, 3))
    This is the sum of the singular values of each D × D matrix. Asked for is the root of the sum of
    all squares, which is called the Frobenius norm.
squared_once_more: .sqrt() → .pow(2)
    The sum is squared once more. Take its square root.
roots_summed: J.pow(2).sum(dim=(1, 3)).sqrt() → J.abs().sqrt().sum(dim=(1, 3))
    Square roots are summed. It is the other way round: square the derivatives, sum, and take the
    root of the sum.
root_of_the_absolute: J.pow(2) → J.abs()
    The absolute values are summed, and not the squares: pow(2) comes before the sum.
length_for_each_output_channel: J.pow(2).sum(dim=(1, 3)).sqrt() → J.norm(dim=3).sum(dim=1)
    The root is taken for each channel of the output, and then these are summed. Take it once, of
    the sum of all D × D squares.
length_for_each_input_channel: J.pow(2).sum(dim=(1, 3)).sqrt() → J.norm(dim=1).sum(dim=2)
    The root is taken for each channel of the input, and then these are summed. Take it once, of the
    sum of all D × D squares.
mean_over_output_channels: J.pow(2).sum(dim=(1, 3)).sqrt() → J.norm(dim=3).mean(dim=1)
    The root is taken for each channel of the output, and then these are averaged. Take it once, of
    the sum of all D × D squares.
mean_over_input_channels: J.pow(2).sum(dim=(1, 3)).sqrt() → J.norm(dim=1).mean(dim=2)
    The root is taken for each channel of the input, and then these are averaged. Take it once, of
    the sum of all D × D squares.
sum_of_the_output: J.pow(2).sum(dim=(1, 3)).sqrt() → J.sum(dim=1).norm(dim=2)
    This is the derivative of the *sum* of an output token's channels, in which the derivatives of
    the single channels cancel. Take those of each channel by itself: D × D squares for each entry.
mean_of_the_output: J.pow(2).sum(dim=(1, 3)).sqrt() → J.mean(dim=1).norm(dim=2)
    This is the derivative of the *mean* of an output token's channels, in which the derivatives of
    the single channels cancel. Take those of each channel by itself: D × D squares for each entry.
sum_of_the_output_in_absolute_values: J.pow(2).sum(dim=(1, 3)).sqrt() →
→ J.sum(dim=1).abs().sum(dim=2)
    This is the derivative of the *sum* of an output token's channels, in absolute values. In it the
    derivatives of the single channels cancel: take those of each channel by itself, and the root of
    the sum of the squares.
sum_of_the_input: J.pow(2).sum(dim=(1, 3)).sqrt() → J.sum(dim=3).norm(dim=1)
    The derivatives with respect to the channels of an input token are added up with their signs,
    and cancel: all channels move together. Square each of the D × D derivatives, then sum.
length_of_the_output: functional.jacobian(layer, x) → functional.jacobian(
→     lambda x: layer(x).norm(dim=-1, keepdim=True), x
→ )
    This is the derivative of the *length* of an output token. A token can turn and keep its length:
    take the derivatives of all its D numbers.
length_of_the_output_squared: functional.jacobian(layer, x) → functional.jacobian(
→     lambda x: layer(x).pow(2).sum(dim=-1, keepdim=True), x
→ )
    The squares of the *output* are summed, and then one derivative is taken. First take the
    derivatives, of all D numbers of the token, and then their squares.
same_channel_only: J.pow(2) → J.diagonal(dim1=1, dim2=3)[:, None].pow(2)
    Only the derivatives of a channel with respect to the *same* channel are counted, D of D × D.
    Sum over both axes of channels.
first_channel_of_the_output: J.pow(2) → J[:, :1].pow(2)
    Only the first channel of the output counts. Each of the D channels does.
last_channel_of_the_output: J.pow(2) → J[:, -1:].pow(2)
    Only the last channel of the output counts. Each of the D channels does: a loop over them has to
    *add*, and not to overwrite.
first_channel_of_the_input: J.pow(2) → J[..., :1].pow(2)
    Only the first channel of the input counts. Each of the D channels does.
times_the_input: J.pow(2) → (J * x[0]).pow(2)
    The derivatives are multiplied by the input. That asks how much of the output comes from it;
    here the derivatives alone are asked for.
rows_sum_to_one: return matrix → return matrix / matrix.sum(dim=1, keepdim=True)
    Each row is divided by its sum. Return the numbers themselves, not shares.
columns_sum_to_one: return matrix → return matrix / matrix.sum(dim=0, keepdim=True)
    Each column is divided by its sum. Return the numbers themselves, not shares.
share_of_the_largest: return matrix → return matrix / matrix.max()
    The matrix is divided by its largest number. Return the numbers themselves.
lower_triangle: return matrix → return matrix.tril()
    Only the entries on and below the diagonal are there. A token of the output may depend on later
    tokens as well: fill in all of the matrix.
itself_left_out: return matrix → return matrix.fill_diagonal_(0)
    The diagonal is set to 0. It says how much a token depends on itself, and belongs to the matrix.
only_itself: return matrix → return matrix.diag()
    Only the diagonal came back: how much each token depends on itself. All pairs of tokens are
    asked for, (N, N).
only_itself_in_a_matrix: return matrix → return matrix.diag().diag()
    Only the diagonal is there, and all else is 0. Every pair of tokens is asked for: how much
    token i depends on token j, too.
one_number_for_an_output: return matrix → return matrix.sum(dim=1)
one_number_for_an_output_mean: return matrix → return matrix.mean(dim=1)
    One number for each token of the output came back. Return that for each pair of tokens, (N, N).
one_number_for_an_input: return matrix → return matrix.sum(dim=0)
one_number_for_an_input_mean: return matrix → return matrix.mean(dim=0)
    One number for each token of the input came back. Return that for each pair of tokens, (N, N).
one_number_for_all: return matrix → return matrix.sum()
one_number_for_all_of_them_mean: return matrix → return matrix.mean()
    A single number came back. Return one for each pair of tokens, (N, N).
all_derivatives: return matrix → return J
    All derivatives came back, (N, D, N, D). Make one number of each D × D of them.
large_matrix: return matrix → return J.flatten(2).flatten(0, 1)
    All derivatives came back, in a matrix of N · D by N · D. Make one number of each D × D of them.
yes_or_no: return matrix → return matrix > 1e-6
    This says whether a token depends on another. The task asks how much: return the numbers.
sign_flipped: return matrix → layer = deepcopy(layer).eval()
→ for j in range(x.shape[1]):
→     other = x.clone()
→     other[:, j] *= -1
→     matrix[:, j] = (layer(other) - layer(x)).detach()[0].norm(dim=1)
→ return matrix
    This is how far the tokens move when the sign of one of them is changed, as `reach` in this
    chapter measures it. Asked for are derivatives, which say what a very small change does.
as_list: return matrix → return matrix.tolist()
    A list came back. Return a tensor (N, N).
as_array: return matrix → return matrix.numpy()
    An array of NumPy came back. Return a tensor (N, N).
result_given: functional.jacobian(layer, x) → functional.jacobian(layer(x), x)
    Something is called that is no function. `jacobian` wants the function itself, and calls it:
    jacobian(layer, x), and not jacobian(layer(x), x).
token_without_a_batch: functional.jacobian(layer, x) → functional.jacobian(layer, x[0])
    The layer is given x without its batch axis. It takes (1, N, D).
single_precision: functional.jacobian(layer, x) → functional.jacobian(layer, x.float())
    x is turned to float32, and the layer's weights need not be. Give the layer x as it is.
""") | edits(row_by_row, """
gradients_pile_up: grad = torch.autograd.grad(out[0, i, c], given, retain_graph=True)[0] →
→ given.grad = None
→ out[0, i, c].backward(retain_graph=True)
→ grad = given.grad
    backward() computes the gradients of the layer's parameters as well, and adds them to those that
    are there. Use torch.autograd.grad or `jacobian`, which give those of x alone, or a deepcopy of
    the layer.
gradients_pile_up_in_x: given = x.clone().requires_grad_() → given = x.requires_grad_()
and: grad = torch.autograd.grad(out[0, i, c], given, retain_graph=True)[0] →
→ given.grad = None
→ out[0, i, c].backward(retain_graph=True)
→ grad = given.grad
gradients_pile_up_in_x_set_to_zero: given = x.clone().requires_grad_() → given = x.requires_grad_()
and: grad = torch.autograd.grad(out[0, i, c], given, retain_graph=True)[0] →
→ given.grad = None
→ out[0, i, c].backward(retain_graph=True)
→ grad = given.grad.clone()
→ given.grad.zero_()
    backward() leaves gradients in `x` and adds some to those of the layer's parameters, and `x`
    has requires_grad=True afterwards. Use `jacobian` or torch.autograd.grad, with a copy,
    x.clone().requires_grad_().
no_gradient_wanted: x.clone().requires_grad_() → x.clone()
    x does not want a gradient, so that nothing is recorded for it. Make a copy that does:
    x.clone().requires_grad_().
nothing_recorded: out = layer(given) → with torch.no_grad():
→     out = layer(given)
    Under torch.no_grad() nothing is recorded, and there is nothing to differentiate. Here gradients
    are wanted.
graph_freed: , retain_graph=True →
    The first backward pass frees the graph, and the second finds none. Say retain_graph=True.
""") | edits(backwards, """
not_set_to_none: given.grad = None → pass
not_set_to_none_for_each_channel: given.grad = None → pass
and: row = 0 → row, given.grad = 0, None
    backward() *adds* to the gradient that is there, so that each derivative has all earlier ones in
    it. Set the gradient to None before each of them, or use torch.autograd.grad.
copy_in_training_mode: .eval() →
    The copy runs in the mode of the layer. In training mode, dropout draws and batch norm goes by
    this one example: call eval() of the copy.
""") | edits(by_differences, """
large_step: 1e-5 → 1e-1
large_step_of_one: 1e-5 → 1.0
large_step_forwards: 1e-5 → 1e-2
and: back[0, j, c] -= step → pass
and: (2 * step) → step
large_step_forwards_of_a_thousandth: 1e-5 → 1e-3
and: back[0, j, c] -= step → pass
and: (2 * step) → step
large_step_forwards_of_one: 1e-5 → 1.0
and: back[0, j, c] -= step → pass
and: (2 * step) → step
    You move x by a step and look how far the output moves. That comes near the derivative only for
    a step that is small, such as 1e-5. Let PyTorch give the exact one, with `jacobian`.
token_removed: there[0, j, c] += step → there[0, j] = 0
and: back[0, j, c] -= step → pass
and: / (2 * step) →
and: for c in range(D) → for c in range(1)
    You put zeros in the place of token j and look how far the output moves. That is another
    measure: asked for are derivatives, at x itself.
not_divided_by_the_step: / (2 * step) →
    How far the output moves depends on the size of the step. Divide by it, or let PyTorch give the
    derivative, with `jacobian`.
""")  # fmt: skip


def probe(answer):
    class Layer(nn.Module):
        def __init__(self, N, D, kind):
            super().__init__()
            self.places, self.width, self.kind = nn.Linear(N, N), nn.Linear(D, D), kind
            self.inner = nn.Sequential(nn.BatchNorm1d(N), nn.Dropout(1.0))

        def forward(self, x):
            y = self.width(x) + self.places(x.mT.tanh()).mT
            y = y + self.inner(x) * x.roll(1, dims=1)
            return y - y.mean(dim=self.kind, keepdim=True) if self.kind else y**2

    def run(N, D, kind, training):
        torch.manual_seed(3)
        layer = Layer(N, D, kind).double()
        layer(draw(2, N, D, seed=1))
        for i, p in enumerate(layer.train(training).parameters()):
            p.grad = draw(*p.shape, seed=i)
        grads = [p.grad.clone() for p in layer.parameters()]
        state = {n: v.clone() for n, v in layer.state_dict().items()}
        x = draw(1, N, D)
        kept = x.clone()
        matrix = single(answer(layer, x))
        same = all(v.equal(state[n]) for n, v in layer.state_dict().items())
        left = [g.equal(p.grad) for g, p in zip(grads, layer.parameters(), strict=True)]
        modes = [m.training for m in layer.modules()]
        return matrix, matrix.requires_grad, same, left, modes, x.requires_grad, x.equal(kept)

    sizes = [(4, 3), (2, 5), (3, 1), (3, 3)]
    return [partial(run, *size, i % 3, i % 2 == 0) for i, size in enumerate(sizes)]


EXERCISE = Exercise(
    name="influence",
    chapter="09_inductive_bias",
    task="influence(layer, x) -> (N, N): entry [i, j] is the root of the sum of the squares of the "
    "D × D derivatives of the output's token i with respect to the input's token j, in eval mode; "
    "afterwards the layer, its gradients and x are as they were, and the result needs no gradient",
    reference=influence,
    cases=cases,
    mutants=MUTANTS,
    accepted=[row_by_row, backwards, by_func, by_differences],
    probe=probe,
)
