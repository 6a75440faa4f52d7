"""An answer that writes into parameters, called so that PyTorch's refusals of it read plainly."""

from vitlib.check.exercise import Refused, call


def filled_in_place(answer, *inputs):
    try:
        return call(answer, *inputs)
    except RuntimeError as error:
        if "leaf" not in str(error):
            raise
        raise Refused(
            "PyTorch stopped your code: it does not let a parameter be written to while gradients "
            "are recorded. Do it inside `with torch.no_grad():`, or use a function of nn.init, "
            "which sees to that itself"
        ) from None
    except TypeError as error:
        if "cannot assign" not in str(error):
            raise
        raise Refused(
            "PyTorch stopped your code: the place of a parameter does not take a plain tensor or "
            "number. Write into the parameter that is there, as the functions of nn.init do"
        ) from None
