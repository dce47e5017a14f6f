"""Mutations of the library: what they change, where, and the tests that should notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev.mutants.__main__ import find_candidates, read_accepted
from dev.mutants.mutations import find_mutations, is_valid
from dev.mutants.runner import Baseline, chosen_tests
from dev.mutants.targets import PACKAGES, ROOT, files_for, lines_of_diff, modules_of, recompiled


def changes(source: str) -> list[str]:
    return [
        mutation.change(source).partition(" -> ")[2]
        for mutation in find_mutations(source)
        if is_valid(mutation, source)
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a = b < c", ["a = b <= c", "a = b >= c"]),
        ("a = b == c != d", ["a = b != c != d", "a = b == c == d"]),
        ("a = b and c", ["a = b or c"]),
        ("a = not b", ["a = b"]),
        ("a = -b ** c", ["a = b ** c", "a = -b * c"]),
        ("a = 2", ["a = 1", "a = 3"]),
        ("a = 0.5, True", ["a = 1.0, True", "a = 0.5, False"]),
        ("f(a, b)", ["f(b, a)", "pass"]),
        ("a = np.minimum(b, 'c')", ["a = np.maximum(b, 'c')"]),
        ("a = sort(b, kind='stable')", ["a = sort(b)"]),
        ("a[b] = c", ["pass"]),
        ("a += b", ["pass"]),
        ("a = b if c else d", ["a = b if not (c) else d"]),
        ("a = [b for b in c if b]", ["a = [b for b in c if True]"]),
        ("if a:\n    raise ValueError(f'{b + 1} < {c}')", ["if not (a):", "pass"]),
        ("for a in b:\n    continue", ["pass"]),
        ("a, b = b, a", ["b, a = b, a", "a, b = a, b"]),
        ("a: int = 1", ["a: int = 2"]),
        # no test is asked to notice these
        ('"""Words, 1 < 2."""', []),
        ("_log.info('%d', 1 + 2)", []),
        ("assert a < b", []),
        ("a: 'Annotated[int, 1]'", []),
        ("@cached(1)\ndef f(a: X[1]) -> Y[2]: ...", []),
        ("class A(Protocol):\n    b = 1", []),
        ("if TYPE_CHECKING:\n    a = 1", []),
        ("a = 'b' + c", []),
    ],
)
def test_faults_of_a_line(line: str, expected: list[str]) -> None:
    assert sorted(changes(line)) == sorted(expected)


def test_a_mutation_changes_nothing_else_and_knows_its_lines() -> None:
    source = "é = 1\nx = f(\n    a,\n    b\n)\ny = 1 < 2  # < 3\n"
    swapped = next(each for each in find_mutations(source) if each.old.startswith("a,"))
    assert list(swapped.lines) == [3, 4]
    assert swapped.apply(source) == source.replace("a,\n    b", "b,\n    a")
    turned = next(each for each in find_mutations(source) if each.new == "<=")
    assert turned.apply(source) == source.replace("1 < 2", "1 <= 2")
    assert (turned.line, turned.change(source)) == (6, "y = 1 < 2 # < 3 -> y = 1 <= 2 # < 3")


def test_lines_that_a_diff_changes() -> None:
    diff = (
        "--- a/x.py\n+++ b/detector/x.py\n@@ -3 +4 @@\n-a\n+b\n@@ -9,2 +10,3 @@ def f():\n+c\n@@ -20,2 +21,0 @@\n-d\n"
    )
    assert lines_of_diff(diff) == {Path("detector/x.py"): {4, 10, 11, 12}}


@pytest.mark.all
def test_every_module_of_the_core_has_tests_and_faults() -> None:
    for module in modules_of(PACKAGES):
        files = files_for(module)
        assert files, module
        assert all((ROOT / file).is_file() for file in files), module
    assert [path.name for path in modules_of(["features/mapping"])] == ["mapping.py"]
    with pytest.raises(SystemExit, match=r"there is no detector/nowhere\.py"):
        modules_of(["nowhere"])
    assert len(find_candidates(["features/mapping"], None)) > 50


@pytest.mark.all
def test_kernels_are_compiled_again_with_all_that_call_them() -> None:
    assert recompiled(Path("detector/features/mapping.py")) == set()
    assert {"detector.features.pooling", "detector.features.encoder"} <= recompiled(
        Path("detector/features/pooling.py")
    )


def test_tests_that_run_the_line_are_chosen_the_fastest_first() -> None:
    one = Baseline({"slow": 3.0, "other": 1.0}, {"slow": {"a.py": [1, 2]}, "other": {"b.py": [2]}})
    two = Baseline({"fast": 2.0}, {"fast": {"a.py": [2]}})
    assert chosen_tests({"one": one, "two": two, "new": None}, Path("a.py"), range(2, 3)) == ["fast", "slow", "new"]
    assert chosen_tests({"one": one, "two": two, "new": None}, Path("a.py"), range(1, 2)) == ["slow", "new"]
    # nothing is known of what is compiled, or runs when it is imported
    assert chosen_tests({"one": one, "two": two, "new": None}, Path("a.py"), range(9, 10)) == [
        "other",
        "fast",
        "slow",
        "new",
    ]


def test_accepted_survivors_are_mutations_that_exist_and_have_a_reason() -> None:
    accepted = read_accepted()
    modules = sorted({name.removeprefix("detector/").removesuffix(".py") for name, _ in accepted})
    there = {(str(each.module), each.change) for each in find_candidates(modules, None)}
    assert {each for each in accepted if each not in there} == set()
    assert all(len(reason) > 10 for reason in accepted.values())
