"""11.3 backward_again: the backward pass of a block whose activations were thrown away."""

import torch
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, fill, numbers
from vitlib.check.probing import draw


def backward_again(block, x, grad):
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        y = block(x)
    y.backward(grad)
    return x.grad


def by_product(block, x, grad):
    again = x.detach().clone()
    again.requires_grad_(True)
    with torch.enable_grad():
        (block(again) * grad).sum().backward()
    return again.grad


def by_autograd(block, x, grad):
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        y = block(x)
    weights = list(block.parameters())
    of_x, *others = torch.autograd.grad(y, [x, *weights], grad)
    for weight, found in zip(weights, others, strict=True):
        weight.grad = found if weight.grad is None else weight.grad + found
    return of_x


def cases(answer) -> Cases:
    def run(before=False, upstream=False, grad_enabled=False):
        block = fill(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3)))
        for i, parameter in enumerate(block.parameters()):
            parameter.grad = numbers(*parameter.shape, seed=20 + i) if before else None
        earlier = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
        x = numbers(2, 4, 3, seed=5)
        calls = []
        block.register_forward_pre_hook(lambda *_: calls.append("forward"))
        with torch.set_grad_enabled(grad_enabled or upstream):
            given = x * earlier if upstream else x
        with torch.set_grad_enabled(grad_enabled):
            of_x = call(answer, block, given, numbers(2, 4, 3, seed=6), may_change=["grad"])
        return {
            "what comes back": of_x,
            "the gradients of the parameters": [
                None if p.grad is None else p.grad.clone() for p in block.parameters()
            ],
            "runs of the block": calls,
            "what reached the block before": earlier.grad,
        }

    yield "2 × 4 tokens, no gradients so far", lambda: run()
    yield "parameters that have gradients already", lambda: run(before=True)
    yield "an input that another block computed", lambda: run(upstream=True)
    yield "the same, with gradients switched on", lambda: run(upstream=True, grad_enabled=True)


MUTANTS = edits(backward_again, """
not_detached: x.detach().requires_grad_() → x if x.requires_grad else x.detach().requires_grad_()
    The input is used as it is. If another block computed it, backward() runs on into that block,
    and the input's own .grad stays empty. Detach it first: this backward pass ends here.
no_graph: with torch.enable_grad(): → if True:
    The block is computed while gradients are switched off, as they are in a backward pass, so there
    is no graph to go back through. Switch them on for it: with torch.enable_grad().
still_switched_off: with torch.enable_grad(): → with torch.no_grad():
    The block is computed in torch.no_grad(), so there is no graph to go back through. This second
    run is the one that needs it: torch.enable_grad().
no_gradient_asked_for: .requires_grad_() →
    Nothing comes back. If you return the .grad of the input, it is empty because nobody asked for
    it: call requires_grad_() on the detached input before the block runs.
ones: y.backward(grad) → y.sum().backward()
    The backward pass begins with ones, as if the loss were the sum of the output. It has to begin
    with `grad`, how the loss changes with the output.
mean: y.backward(grad) → y.mean().backward()
    The backward pass begins with the mean of the output. It has to begin with `grad`, how the loss
    changes with the output.
input_alone: y.backward(grad) → x.grad = torch.autograd.grad(y, x, grad)[0]
    What comes back is right, but the block's parameters got no gradients. y.backward(grad) gives
    the input and the parameters theirs.
cleared: y.backward(grad) → block.zero_grad()
→ y.backward(grad)
    The gradients that the parameters had are cleared. A backward pass adds to them: another part of
    the batch may have left them there.
cleared_afterwards: y.backward(grad) → y.backward(grad)
→ block.zero_grad()
    The gradients of the parameters are cleared after the backward pass. They are what the optimiser
    is waiting for.
output: return x.grad → return y.detach()
    The output comes back. The block before waits for the gradient of this block's input.
given_back: return x.grad → return grad
    The gradient of the output comes back as it was given. The block before waits for the gradient
    of this block's input.
without_residual: return x.grad → return x.grad - grad
    `grad` is subtracted from the gradient of the input.
plus_residual: return x.grad → return x.grad + grad
    `grad` is added to the gradient of the input. If the block has a residual connection, it is
    within the block, and backward() knows of it.
twice: y = block(x) → y = block(block(x) * 0 + x)
    The block is computed twice. The output of its first run is all that is needed.
added_twice: y.backward(grad) → y.backward(grad, retain_graph=True)
→ y.backward(grad)
    The backward pass runs twice, so all gradients are doubled.
negative: y.backward(grad) → y.backward(-grad)
    The sign is wrong: a backward pass carries the gradient itself. It is the optimiser that goes
    against it.
""")  # fmt: skip


def probe(answer):
    def run(enabled, before):
        torch.manual_seed(2)
        block = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 4)).double()
        for parameter in block.parameters():
            parameter.grad = torch.full_like(parameter, 0.3) if before else None
        earlier = torch.ones((), dtype=torch.float64, requires_grad=True)
        with torch.set_grad_enabled(True):
            x = draw(3, 4) * earlier
        with torch.set_grad_enabled(enabled):
            back = answer(block, x, draw(3, 4, seed=8))
        left = "nothing" if earlier.grad is None else earlier.grad
        return back, [p.grad for p in block.parameters()], left

    return [lambda g=g: run(*g) for g in [(False, False), (False, True), (True, True)]]


EXERCISE = Exercise(
    name="backward_again",
    chapter="11_scaling",
    task="backward_again(block, x, grad): compute block(x) again, once, and return the gradient of "
    "x, given that of the output; the parameters' gradients are added to their .grad, and nothing "
    "goes on to what computed x; gradients may be switched off when it is called",
    reference=backward_again,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_product, by_autograd],
    probe=probe,
)
