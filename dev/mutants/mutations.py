"""Small, realistic mutations of a module: a comparison changed, a statement removed, arguments swapped, one at a time.

No test can be expected to notice changes of docstrings, annotations, messages, logging, decorators, assertions for the
type checker, and protocols: they are left unchanged.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], tuple[str, tuple[str, ...]]] = {
    ast.Lt: ("<", ("<=", ">=")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: ("is not", ("is",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: ("not in", ("in",)),
}
_ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
}
_SYMMETRIC = ("min", "max", "np.minimum", "np.maximum", "np.hypot", "np.array_equal")
_OPPOSITES = {
    "min": "max",
    "max": "min",
    "minimum": "maximum",
    "maximum": "minimum",
    "floor": "ceil",
    "ceil": "floor",
    "argmin": "argmax",
    "argmax": "argmin",
    "any": "all",
    "all": "any",
    "zeros": "ones",
    "sum": "max",
    "mean": "sum",
}
# a keyword argument without which a call still does something
_OPTIONAL = re.compile(r"kind|axis|initial|reverse|ddof|dtype|replace|side|keepdims|stable|default|copy")


@dataclass(frozen=True)
class Mutation:
    """Replaces ``old``, the bytes ``start`` to ``end`` of a source, by ``new``; ``line`` counts from 1."""

    line: int
    start: int
    end: int
    old: str
    new: str

    @property
    def lines(self) -> range:
        """Changed lines, from 1."""
        return range(self.line, self.line + self.old.count("\n") + 1)

    def apply(self, source: str) -> str:
        """Return the source with the mutation."""
        data = source.encode()
        return (data[: self.start] + self.new.encode() + data[self.end :]).decode()

    def change(self, source: str) -> str:
        """Return the changed code before and after, on one line: "if a < b: -> if a <= b:"."""
        data = source.encode()
        first = data.rfind(b"\n", 0, self.start) + 1
        before, after = data[first : self.start].decode(), data[self.end :].partition(b"\n")[0].decode()
        return " -> ".join(" ".join(f"{before}{each}{after}".split()) for each in (self.old, self.new))


def find_mutations(source: str) -> list[Mutation]:
    """Return all mutations of a module, in the order of the source; a few may not be valid (see `is_valid`)."""
    return sorted({*_Mutations(source).of(ast.parse(source))}, key=lambda each: (each.start, each.end, each.new))


def is_valid(mutation: Mutation, source: str) -> bool:
    """Return whether the source with a mutation compiles, and differs from the original."""
    try:
        return ast.dump(ast.parse(mutation.apply(source))) != ast.dump(ast.parse(source))
    except SyntaxError:
        return False


class _Mutations:
    def __init__(self, source: str) -> None:
        self.data = source.encode()
        self.starts = [0]
        for line in self.data.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def of(self, node: ast.AST) -> Iterator[Mutation]:
        """Yield the mutations of a node and those below it."""
        if _is_left_alone(node):
            return
        yield from self._here(node)
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "type_params", "bases"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from self.of(child)

    def _here(self, node: ast.AST) -> Iterator[Mutation]:
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            for left, kind, right in zip(sides, node.ops, sides[1:], strict=False):
                old, others = _COMPARISONS[type(kind)]
                for new in others:
                    yield from self._between(left, right, old, new)
        elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC and not _is_text(node):
            yield from self._between(node.left, node.right, *_ARITHMETIC[type(node.op)])
        elif isinstance(node, ast.BoolOp):
            old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
            for left, right in zip(node.values, node.values[1:], strict=False):
                yield from self._between(left, right, old, new)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.Invert):
            yield self._mutation(node, self._text(node.operand))
        elif isinstance(node, ast.Constant):
            yield from (self._mutation(node, new) for new in _other_constants(node.value))
        elif isinstance(node, ast.IfExp | ast.If | ast.While):
            # comparisons in it are turned by themselves
            if not isinstance(node.test, ast.Compare | ast.BoolOp | ast.UnaryOp):
                yield self._mutation(node.test, f"not ({self._text(node.test)})")
        elif isinstance(node, ast.comprehension):
            yield from (self._mutation(each, "True") for each in node.ifs)
        elif isinstance(node, ast.Call):
            yield from self._of_call(node)
        elif isinstance(node, ast.Tuple) and len(node.elts) > 1 and all(map(_is_plain, node.elts[:2])):
            yield from self._swapped(node.elts[0], node.elts[1])
        elif isinstance(node, ast.stmt):
            yield from self._of_statement(node)

    def _of_call(self, node: ast.Call) -> Iterator[Mutation]:
        for left, right in zip(node.args, node.args[1:], strict=False):
            if _is_plain(left) and _is_plain(right) and ast.unparse(node.func) not in _SYMMETRIC:
                yield from self._swapped(left, right)
        last = node.func
        name = last.attr if isinstance(last, ast.Attribute) else last.id if isinstance(last, ast.Name) else ""
        if name in _OPPOSITES and last.end_lineno is not None and last.end_col_offset is not None:
            end = self._at(last.end_lineno, last.end_col_offset)
            yield Mutation(last.end_lineno, end - len(name), end, name, _OPPOSITES[name])
        for keyword in node.keywords:
            if keyword.arg and _OPTIONAL.fullmatch(keyword.arg):
                old = self._text(keyword)
                pattern = re.compile(rf",\s*{re.escape(old)}|{re.escape(old)}\s*,?\s*")
                yield self._mutation(node, pattern.sub("", self._text(node), count=1))

    def _of_statement(self, node: ast.stmt) -> Iterator[Mutation]:
        if (
            isinstance(node, ast.AugAssign | ast.Raise | ast.Continue | ast.Break)
            or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
            or (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript | ast.Attribute))
        ):
            yield self._mutation(node, "pass")

    def _swapped(self, left: ast.expr, right: ast.expr) -> Iterator[Mutation]:
        (start, middle), (again, end) = self._span(left), self._span(right)
        between = self.data[middle:again].decode()
        old = self.data[start:end].decode()
        yield Mutation(left.lineno, start, end, old, f"{self._text(right)}{between}{self._text(left)}")

    def _between(self, left: ast.expr, right: ast.expr, old: str, new: str) -> Iterator[Mutation]:
        start, end = self._span(left)[1], self._span(right)[0]
        if match := re.search(re.escape(old).replace(r"\ ", r"\s+"), self.data[start:end].decode()):
            start += match.start()
            line = self.data.count(b"\n", 0, start) + 1
            yield Mutation(line, start, start + len(match[0]), match[0], new)

    def _mutation(self, node: ast.expr | ast.stmt | ast.keyword, new: str) -> Mutation:
        start, end = self._span(node)
        return Mutation(node.lineno, start, end, self._text(node), new)

    def _text(self, node: ast.expr | ast.stmt | ast.keyword) -> str:
        start, end = self._span(node)
        return self.data[start:end].decode()

    def _span(self, node: ast.expr | ast.stmt | ast.keyword) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self._at(node.lineno, node.col_offset), self._at(node.end_lineno, node.end_col_offset)

    def _at(self, line: int, column: int) -> int:
        return self.starts[line - 1] + column


def _is_left_alone(node: ast.AST) -> bool:
    if isinstance(node, ast.Assert | ast.Import | ast.ImportFrom | ast.JoinedStr):
        return True
    if isinstance(node, ast.keyword):
        return node.arg == "strict"  # of zip: an assertion, too
    if isinstance(node, ast.Expr):
        call = node.value
        return isinstance(call, ast.Constant) or (isinstance(call, ast.Call) and ast.unparse(call).startswith("_log."))
    if isinstance(node, ast.ClassDef):
        return any(ast.unparse(base).startswith("Protocol") for base in node.bases)
    if isinstance(node, ast.If):
        # the latter is run by a process of its own, from the module on disk
        return ast.unparse(node.test) in ("TYPE_CHECKING", "__name__ == '__main__'")
    # `raise` itself may be left out, what it says is its own business
    return isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("Error", "Error.from_fault"))


def _is_plain(node: ast.expr) -> bool:
    """Return whether an argument could be mistaken for its neighbor: a value, not a dtype."""
    if isinstance(node, ast.Name | ast.Subscript | ast.BinOp | ast.Call):
        return True
    return isinstance(node, ast.Attribute) and not ast.unparse(node).startswith(("np.", "torch."))


def _is_text(node: ast.BinOp) -> bool:
    sides = (node.left, node.right)
    return any(isinstance(each, ast.JoinedStr) or (_constant(each, str) is not None) for each in sides)


def _constant(node: ast.expr, kind: type) -> object:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, kind) else None


def _other_constants(value: object) -> list[str]:
    if isinstance(value, bool):
        return [str(not value)]
    if isinstance(value, int):
        return [str(value + 1), *([str(value - 1)] if value > 1 else [])]
    if isinstance(value, float):
        return [repr(2 * value) if value else "1.0"]
    return []
