"""The number that an answer counts; a whole float, such as 205066.0, passes as an integer."""

from vitlib.check.exercise import call


def count(answer, *sizes):
    number = call(answer, *sizes)
    number = number.item() if hasattr(number, "item") else number
    return int(number) if isinstance(number, float) and number.is_integer() else number
