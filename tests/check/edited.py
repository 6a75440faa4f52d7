"""Wrong answers by the thousand: small edits of right answers, as a tired reader makes them.

`edited(answer)` yields pairs: what was changed, and the changed answer. The source of the answer
and of the functions of its file that it calls is parsed; one place is changed; all of it is
executed in a copy of the file's names, so that nothing else sees the edit.
"""

import ast
import functools
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any

SIGNS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult,
}  # fmt: skip
COMPARISONS = {
    ast.Lt: [ast.LtE, ast.GtE], ast.LtE: [ast.Lt, ast.Gt], ast.Gt: [ast.GtE, ast.LtE],
    ast.GtE: [ast.Gt, ast.Lt], ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is], ast.In: [ast.NotIn], ast.NotIn: [ast.In],
}  # fmt: skip
DROPPED = {
    "transpose", "permute", "flip", "flatten", "reshape", "expand", "detach", "mean", "sum", "sqrt",
    "softmax", "log", "exp", "abs", "repeat", "roll", "unsqueeze", "squeeze", "eval", "train",
}  # fmt: skip


def edits_of(node: ast.AST, arguments: Sequence[str]) -> Iterator[ast.AST]:
    """What might stand in the place of this node, in a function with these arguments."""
    match node:
        case ast.Name(name, ast.Load()) if name in arguments and len(arguments) > 1:
            yield ast.Name(arguments[arguments.index(name) - 1], ast.Load())
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() as value):
            yield from (ast.Constant(value + step) for step in (1, -1))
        case ast.Constant(value=float() as value):
            yield ast.Constant(value * 2 if value else 1.0)
        case ast.Constant(value=str() as value) if "->" in value:
            yield from map(ast.Constant, _patterns(value))
        case ast.BinOp(left, operator, right):
            if type(operator) in SIGNS:
                yield ast.BinOp(left, SIGNS[type(operator)](), right)
            if not isinstance(operator, ast.Add | ast.Mult):
                yield ast.BinOp(right, operator, left)
        case ast.UnaryOp(_, operand):
            yield operand
        case ast.Compare(left, [operator], right):
            yield from (ast.Compare(left, [o()], right) for o in COMPARISONS[type(operator)])
        case ast.BoolOp(operator, values):
            yield ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)
        case ast.IfExp(test, body, orelse):
            yield ast.IfExp(test, orelse, body)
        case ast.Attribute(value, "T" | "mT"):
            yield value
        case ast.Call(function, arguments, keywords):
            if isinstance(function, ast.Attribute) and function.attr in DROPPED:
                yield function.value
            if not any(isinstance(a, ast.Constant) and isinstance(a.value, str) for a in arguments):
                # a name in a number's place would be multiplied into gigabytes of text
                yield from (ast.Call(function, swap, keywords) for swap in _swapped(arguments))
            for i, keyword in enumerate(keywords):
                if keyword.arg is not None:
                    yield ast.Call(function, arguments, keywords[:i] + keywords[i + 1 :])
        case ast.Tuple(elements, ast.Load()) | ast.List(elements, ast.Load()):
            yield from (type(node)(swap, ast.Load()) for swap in _swapped(elements))
        case ast.Assign() | ast.AugAssign() | ast.Expr() | ast.Return() | ast.Raise() | ast.If():
            yield ast.Pass()


def _swapped(items: list[ast.expr]) -> Iterator[list[ast.expr]]:
    for i in range(len(items) - 1):
        yield [*items[:i], items[i + 1], items[i], *items[i + 2 :]]


def _patterns(pattern: str) -> Iterator[str]:
    """An einops or einsum pattern with two neighbouring axes of the result swapped."""
    left, right = pattern.split("->")
    axis = r"\w" if "," in left else r"\w+"  # einsum's axes are letters, einops' are words
    for a, b in pairwise(re.finditer(axis, right)):
        between = right[a.end() : b.start()]
        yield f"{left}->{right[: a.start()]}{b[0]}{between}{a[0]}{right[b.end() :]}"


Place = tuple[ast.AST, str, int | None, Sequence[str]]
LEFT_ALONE = ("annotation", "returns", "decorator_list", "type_params", "exc", "format_spec")


def places(tree: ast.AST, arguments: Sequence[str] = ()) -> Iterator[Place]:
    """(parent, field, index in it, the function's arguments) of all that can be edited.

    Annotations, messages and docstrings cannot.
    """
    if isinstance(tree, ast.FunctionDef | ast.Lambda):
        arguments = [a.arg for a in tree.args.args if a.arg != "self"]
    for field, value in ast.iter_fields(tree):
        if field in LEFT_ALONE:
            continue
        for i, child in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(child, ast.AST) or isinstance(child, ast.JoinedStr):
                continue
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                continue
            yield tree, field, i if isinstance(value, list) else None, arguments
            yield from places(child, arguments)


# --- from an answer to its source


@functools.cache
def _parsed(module: ModuleType) -> ast.Module:
    return ast.parse(inspect.getsource(module))


def _definition(function: Any, module: ModuleType) -> ast.AST:
    """The node that defines a function, a class or a lambda, by its qualified name."""
    scope: ast.AST = _parsed(module)
    for name in function.__qualname__.split("."):
        if name == "<lambda>":
            found = [
                node
                for node in ast.walk(scope)
                if isinstance(node, ast.Lambda)
                and node.lineno == function.__code__.co_firstlineno
                and ast.unparse(node.args).split(", ")[0] == _first_argument(function)
            ]
            return found[0]
        if name != "<locals>":
            kinds = ast.FunctionDef | ast.ClassDef
            scope = next(n for n in ast.walk(scope) if isinstance(n, kinds) and n.name == name)
    return scope


def _first_argument(function: Any) -> str:
    names = str(inspect.signature(function)).strip("()").split(", ")
    return names[0]


def _helpers(node: ast.AST, module: ModuleType, found: dict[str, ast.AST]) -> dict[str, ast.AST]:
    """The module's own functions and classes that a definition uses, and that those use."""
    used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    for other in _parsed(module).body:
        name = other.name if isinstance(other, ast.FunctionDef | ast.ClassDef) else ""
        if other is not node and name in used and name not in found:
            found[name] = other
            _helpers(other, module, found)
    return found


def edited(answer: Any, seen: set[str]) -> Iterator[tuple[str, Any]]:
    """(what was changed, the changed answer) for every edit of a right answer.

    `seen` holds the names of definitions that were edited before, for another answer, and grows.
    """
    if isinstance(answer, functools.partial):
        for text, function in edited(answer.func, seen):
            yield text, functools.partial(function, *answer.args, **answer.keywords)
        return
    target = inspect.unwrap(answer)
    module = sys.modules[target.__module__]
    if module.__name__.startswith("vitlib"):
        node = _definition(target, module)
        own = module.__name__.startswith("vitlib.check")
        helpers = _helpers(node, module, {}) if own else {}
        names = dict(vars(module))
        if not isinstance(target, type):
            names |= inspect.getclosurevars(target).nonlocals
        yield from _edited(node, helpers, names, seen)


def _edited(
    node: ast.AST, helpers: dict[str, ast.AST], names: dict[str, Any], seen: set[str]
) -> Iterator[tuple[str, Any]]:
    definitions = sorted([node, *helpers.values()], key=lambda n: n.lineno)
    label = getattr(node, "name", f"<lambda> in line {node.lineno}")
    value = node if isinstance(node, ast.Lambda) else ast.Name(node.name, ast.Load())
    last = ast.Assign([ast.Name("answer", ast.Store())], value)
    program = ast.Module([d for d in definitions if not isinstance(d, ast.Lambda)] + [last], [])
    for definition in definitions:
        name = getattr(definition, "name", label)
        if name in seen:
            continue
        seen.add(name)
        for parent, field, index, arguments in list(places(definition)):
            value = getattr(parent, field)
            before = value if index is None else value[index]
            for after in edits_of(before, arguments):
                text = f"{name}, line {before.lineno}: {_say(before)} → {_say(after)}"
                _put(parent, field, index, after)
                try:
                    code = compile(ast.fix_missing_locations(program), f"<edit of {label}>", "exec")
                    namespace = dict(names)
                    exec(code, namespace)
                except Exception:  # an edit that is not even a definition
                    continue
                finally:
                    _put(parent, field, index, before)
                yield text, namespace["answer"]


def _put(parent: ast.AST, field: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node


def _say(node: ast.AST) -> str:
    return "(dropped)" if isinstance(node, ast.Pass) else ast.unparse(node).split("\n")[0]
