"""Do the tests notice? Small changes to the numerics, drawn at random, each given to the tests.

Question: which share of small changes (another sign, bound, constant, comparison) do the tests of
the changed module notice?
Command: python -m experiments.mutation [--packages P,P…] [--draws N] [--seed S] [--again]; needs
cosmic-ray (`pip install cosmic-ray`), whose operators make the changes. About 20 seconds a change
on one core. Rows that the table in the folder has already are not tested again; --again tests
those that survived and have no reason beside them.
Found, with what it means: experiments/results/mutation/README.md.

A mutant is one change at one place. Places are drawn without replacement from all places of a
package where an operator applies, outside annotations, and one of the operators that apply there.
The tests run in a copy of the working tree: first the file named after the module, then those of
its package and of `ELSEWHERE`, until one fails. A mutant that takes ten times the processor time of
the tests without a change counts as noticed, for a suite that hangs is one that somebody looks at.
"""

import argparse
import functools
import itertools
import os
import pathlib
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pandas as pd
import parso
from cosmic_ray import plugins
from cosmic_ray.ast import get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "experiments" / "results" / "mutation"
# Tests of a package that lie outside its folder.
ELSEWHERE = {
    "tasks": (),
    "models": ("tests/training/test_step.py",),
    "training": ("tests/measuring/test_lenses.py", "tests/test_workflow.py", "tests/damaged"),
    "diagnostics": ("tests/measuring/test_functions.py", "tests/measuring/test_lenses.py"),
    "statistics": (),
    "store": (
        "tests/damaged",
        *(
            f"tests/test_{name}.py"
            for name in ("fuzzing", "odd_disks", "merge", "faults", "allowed")
        ),
    ),
}
SWAPS = (
    *("Binary" + pair for pair in ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Pow_Mul")),
    *("Binary" + pair for pair in ("FloorDiv_Mul", "Mod_FloorDiv", "BitAnd_BitOr", "BitOr_BitAnd")),
    *("Comparison" + pair for pair in ("Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Eq_NotEq")),
    *("Comparison" + pair for pair in ("NotEq_Eq", "Is_IsNot", "IsNot_Is", "Lt_Gt", "Gt_Lt")),
    *("Unary" + pair for pair in ("Delete_USub", "Delete_Not")),
)
OTHERS = (
    *("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr"),
    *("ReplaceOrWithAnd", "ReplaceBreakWithContinue", "ReplaceContinueWithBreak"),
    *("NumberReplacer", "ZeroIterationForLoop"),
)
KILLED, SURVIVED = "noticed", "survived"


class FloatReplacer(Operator):
    """A tenth more: what a constant of the field that was mistyped looks like."""

    def mutation_positions(self, node):
        """Where a float stands that is not 0."""
        if node.type == "number" and not node.value.isdigit() and eval(node.value):
            yield node.start_pos, node.end_pos

    def mutate(self, node, index):
        """Returns the number times 1.1."""
        return parso.python.tree.Number(f" {eval(node.value) * 1.1:.6g}", node.start_pos)

    @classmethod
    def examples(cls):
        """None."""
        return ()


def operators() -> dict[str, Operator]:
    """Operators by name."""
    swaps = {name: "Replace{}Operator_{}".format(*_kind(name)) for name in SWAPS}
    named = {**swaps, **{name: name for name in OTHERS}}
    made = {name: plugins.get_operator(f"core/{path}")() for name, path in named.items()}
    return {**made, "FloatReplacer": FloatReplacer()}


def _kind(name: str) -> tuple[str, str]:
    kind = next(kind for kind in ("Binary", "Comparison", "Unary") if name.startswith(kind))
    return kind, name.removeprefix(kind)


def in_annotation(node: parso.tree.NodeOrLeaf) -> bool:
    """Whether a node is part of a type and not of what runs."""
    child, parent = node, node.parent
    while parent is not None:
        if parent.type == "tfpdef" and child is parent.children[2]:
            return True
        if parent.type == "annassign" and child is parent.children[1]:
            return True
        if parent.type == "funcdef" and child is parent.annotation:
            return True
        child, parent = parent, parent.parent
    return False


def places(source: str) -> dict[tuple[int, int], list[tuple[str, int]]]:
    """Where in a module which operator applies: (line, column) → [(operator, occurrence)]."""
    found: dict[tuple[int, int], list[tuple[str, int]]] = {}
    named = operators()
    counts = {name: itertools.count() for name in named}
    for node in _walk(get_ast(source)):
        for name, operator in named.items():
            for _ in operator.mutation_positions(node):
                occurrence = next(counts[name])
                if not in_annotation(node):
                    found.setdefault(node.start_pos, []).append((name, occurrence))
    return found


def _walk(node: parso.tree.NodeOrLeaf) -> Iterator[parso.tree.NodeOrLeaf]:
    yield node
    for child in getattr(node, "children", ()):
        yield from _walk(child)


def mutated(source: str, operator: str, occurrence: int) -> str | None:
    """The changed source; None where it does not compile or is the same program."""
    changed = mutate_code(source, operators()[operator], occurrence)
    try:
        same = changed is None or compile(changed, "", "exec") == compile(source, "", "exec")
    except SyntaxError:
        return None
    return None if same else changed


def lines_changed(source: str, changed: str) -> tuple[int, str, str]:
    """Line number, the line before, the line after."""
    for number, (was, now) in enumerate(
        zip(source.split("\n"), changed.split("\n"), strict=False), 1
    ):
        if was != now:
            return number, was.strip(), now.strip()
    raise ValueError("nothing changed")


def draw(package: str, n: int, seed: int) -> Iterator[dict[str, object]]:
    """Draws n mutants of a package."""
    rng = random.Random(f"{package}/{seed}")
    modules = sorted((ROOT / "grokjax" / package).glob("*.py"))
    sources = {module: module.read_text() for module in modules}
    where = [
        (module, at, names) for module in modules for at, names in places(sources[module]).items()
    ]
    rng.shuffle(where)
    drawn = 0
    for module, _, names in where:
        operator, occurrence = rng.choice(names)
        changed = mutated(sources[module], operator, occurrence)
        if changed is None or drawn == n:
            continue
        drawn += 1
        line, was, now = lines_changed(sources[module], changed)
        path = str(module.relative_to(ROOT))
        yield dict(module=path, line=line, operator=operator, was=was, now=now, source=changed)


def tests_of(module: str) -> list[list[str]]:
    """Test files of a module, in the order in which they are asked."""
    package, name = pathlib.Path(module).parts[1], pathlib.Path(module).stem.strip("_")
    all_of = sorted((ROOT / "tests" / package).glob("test_*.py"))
    own = [path for path in all_of if name != "init" and name in path.stem]
    rest = [*(path for path in all_of if path not in own), *(ROOT / p for p in ELSEWHERE[package])]
    own += [ROOT / "tests" / f"test_{name}.py" for name in ("constants", "architecture")]
    return [[str(path.relative_to(ROOT)) for path in paths] for paths in (own, rest)]


def notices(tree: pathlib.Path, files: list[str], seconds: int) -> bool:
    """Whether one of the tests fails, or takes more than so many seconds of processor time."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *files]
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_CPU, (seconds, seconds + 5))
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    environment["GROKJAX_TESTS_CACHE"] = str(tree / "compiled")
    done = subprocess.run(command, cwd=tree, env=environment, preexec_fn=limit, capture_output=True)
    return done.returncode != 0


def copy_of_tree() -> pathlib.Path:
    """A copy of what git tracks, with the changes that are not committed."""
    tree = pathlib.Path(tempfile.mkdtemp(prefix="mutants-"))
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copy2(ROOT / name, tree / name)
    return tree


def judge(tree: pathlib.Path, mutant: dict[str, object], seconds: int) -> str:
    """Gives one mutant to the tests."""
    module = str(mutant["module"])
    path, source = tree / module, (ROOT / module).read_text()
    path.write_text(str(mutant["source"]))
    try:
        found = any(notices(tree, files, seconds) for files in tests_of(module))
    finally:
        path.write_text(source)
    return KILLED if found else SURVIVED


def again(row: pd.Series) -> dict[str, object] | None:
    """The mutant of a row in today's source; None where its line is gone."""
    path = ROOT / row.module
    source = path.read_text()
    lines = source.split("\n")
    at = [i for i, line in enumerate(lines) if line.strip() == row.was]
    if not at:
        return None
    i = min(at, key=lambda i: abs(i + 1 - row.line))
    lines[i] = lines[i].replace(row.was, row.now)
    return row.to_dict() | {"line": i + 1, "source": "\n".join(lines)}


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Scores a package: of the mutants that are not equivalent, the share that tests notice."""
    table = table.assign(package=table.module.str.split("/").str[1])
    told = table[~table.reason.str.startswith("equivalent")]
    counts = told.groupby("package").agg(
        mutants=("outcome", "size"),
        noticed_first=("first", lambda x: int((x == KILLED).sum())),
        noticed_now=("outcome", lambda x: int((x == KILLED).sum())),
    )
    counts.insert(0, "equivalent", table.package.value_counts() - counts.mutants)
    counts.loc["all"] = counts.sum()
    for when in ("first", "now"):
        counts[f"score_{when}"] = (counts[f"noticed_{when}"] / counts.mutants).round(3)
    return counts


def main() -> None:
    """Draws, tests, prints the scores."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--packages", default=",".join(ELSEWHERE))
    parser.add_argument("--draws", type=int, default=40, help="mutants a package")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=int, default=900, help="processor time a test process")
    parser.add_argument("--again", action="store_true", help="test the survivors again")
    parser.add_argument("--folder", type=pathlib.Path, default=FOLDER)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    path = args.folder / "mutants.csv"
    table = pd.read_csv(path, keep_default_na=False) if path.exists() else pd.DataFrame()
    tree = copy_of_tree()
    for package in args.packages.split(","):
        if not args.again:
            table = fresh(table, path, tree, package, args)
        else:
            repeat(table, path, tree, package, args.seconds)
    shutil.rmtree(tree)
    print(summary(table).to_string())


def fresh(table, path, tree, package, args) -> pd.DataFrame:
    """Tests drawn mutants that the table has not, and adds them to it."""
    for mutant in draw(package, args.draws, args.seed):
        key = [mutant[name] for name in ("module", "was", "now")]
        if len(table) and (table[["module", "was", "now"]] == key).all(axis=1).any():
            continue
        outcome = judge(tree, mutant, args.seconds)
        row = {name: value for name, value in mutant.items() if name != "source"}
        row |= dict(first=outcome, outcome=outcome, reason="")
        table = pd.concat([table, pd.DataFrame([row])], ignore_index=True)
        table.to_csv(path, index=False)
        print(
            f"{outcome}: {row['module']}:{row['line']}: {row['was']}  →  {row['now']}", flush=True
        )
    return table


def repeat(table, path, tree, package, seconds) -> None:
    """Tests the survivors of a package again, in place."""
    rows = table[(table.outcome == SURVIVED) & (table.reason == "")]
    for i, row in rows[rows.module.str.startswith(f"grokjax/{package}/")].iterrows():
        mutant = again(row)
        if mutant is None:
            print(f"gone: {row.module}: {row.was}", flush=True)
            continue
        table.loc[i, "outcome"] = judge(tree, mutant, seconds)
        table.to_csv(path, index=False)
        print(f"{table.outcome[i]}: {row.module}:{row.line}: {row.was}  →  {row.now}", flush=True)


if __name__ == "__main__":
    main()
