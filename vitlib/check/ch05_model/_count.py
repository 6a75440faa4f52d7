"""What an answer counts; 205066.0, as a ratio of 4.0 easily makes it, is whole as well."""

from vitlib.check.exercise import call


def count(answer, *sizes):
    number = call(answer, *sizes)
    number = number.item() if hasattr(number, "item") else number
    return int(number) if isinstance(number, float) and number.is_integer() else number
