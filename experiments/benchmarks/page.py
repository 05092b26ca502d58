"""The page of the benchmarks: what each measured, beside what is asked of it."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Row = tuple[str, str, str]  # what, measured, required


def _train(record: dict[str, Any]) -> Iterator[Row]:
    from experiments.benchmarks.train import LEAST_OF_OLD, REQUIRED

    for result in record["results"]:
        cost, kind = result["milliseconds_per_run_step"], result["model"]
        where = f"{kind}, p = {result['prime']}"
        asked, required = REQUIRED.get((result["backend"], kind), (None, 0.0))
        for n_runs, ratio in result["ratios"].items():
            ours = next(v for name, v in cost.items() if name.startswith(f"grokjax, {n_runs} run"))
            eager = cost["PyTorch eager"]
            yield (
                f"{where}, {n_runs} a batch: PyTorch's time over grokjax's, per run-step",
                f"**{result['ratios_to_plain_eager'][n_runs]:.2f}** to eager "
                f"({ours:.2f} against {eager:.2f} ms), {ratio:.2f} to its fastest",
                f"≥ {required}" if int(n_runs) == asked else "",
            )
        for n_runs, ratio in result.get("ratios_to_old", {}).items():
            yield (
                f"{where}, {n_runs} a batch: the old version's time over this one's",
                f"**{ratio:.2f}**",
                f"≥ {LEAST_OF_OLD}",
            )
        floor, best = result["floor"], min(v for n, v in cost.items() if n.startswith("grokjax"))
        roofline, products = (1e3 * floor[f"{k}_seconds"] for k in ("roofline", "products"))
        yield (
            f"{where}: step over the floor ({floor['flops'] / 1e9:.2f} GFLOP at "
            f"{floor['matrix_flops_per_second'] / 1e9:,.0f} GFLOP/s, "
            f"{floor['bytes'] / 1e6:.0f} MB at {floor['copied_bytes_per_second'] / 1e9:,.0f} GB/s)",
            f"**{best / roofline:.2f}** times the roofline's {roofline:.2f} ms, "
            f"{best / products:.2f} times its products alone",
            "",
        )
        for name, reason in result["missing"].items():
            yield f"{where}: {name}", f"does not work here: {reason[:100]}", ""


def _scaling(record: dict[str, Any]) -> Iterator[Row]:
    from experiments.benchmarks.scaling import LARGE, MOST, SMALL

    for result in record["results"]:
        costs = result["milliseconds_per_run_step"].items()
        yield (
            f"{result['model']}, p = {result['prime']}: cost of a run-step, {LARGE} runs a batch "
            f"over {SMALL}",
            f"**{result['ratio']:.2f}** ("
            + ", ".join(f"{n}: {ms:.2f} ms" for n, ms in costs)
            + ")",
            f"≤ {MOST}",
        )


def _sweep(record: dict[str, Any]) -> Iterator[Row]:
    from experiments.benchmarks.sweep import MOST_SECONDS, REQUIRED_SHARE

    for result in record["results"]:
        took = result["from_first_step_to_last_checkpoint"]
        parts = {k: v / took for k, v in result["seconds"].items() if not k.startswith("compiling")}
        training = parts.pop("training")
        beside = parts.pop("diagnostics", 0.0)
        yield (
            f"quick sweep, {result['start']} start: share of training in {took:.0f} s",
            f"**{training:.1%}** (" + ", ".join(f"{k} {v:.1%}" for k, v in parts.items()) + "; "
            f"diagnostics beside it {beside:.0%})",
            f"≥ {REQUIRED_SHARE:.0%}",
        )
        yield (
            f"quick sweep, {result['start']} start: first step",
            f"**{result['first_step_after']:.1f} s**",
            f"≤ {MOST_SECONDS:.0f} s" if result["start"] == "warm" else "",
        )


def _costs(record: dict[str, Any]) -> Iterator[Row]:
    from experiments.benchmarks.costs import MORE, REQUIRED_SHARE, STEPS

    for result in record["results"]:
        for name, share in result["share_of_steps"].items():
            often = result["share_of_checkpoints"][name]
            yield (
                f"{result['model']}, p = {result['prime']}: {name} over {STEPS} steps",
                f"**{share:.2%}** ({result['milliseconds'][name]:.0f} ms"
                + (f", at one checkpoint in {1 / often:.0f})" if often < 0.9 else ")"),
                "" if name in MORE else f"< {REQUIRED_SHARE:.0%}",
            )


def _persistence(record: dict[str, Any]) -> Iterator[Row]:
    for result in record["results"]:
        yield (
            f"H0, H1 of a {result['cloud']} cloud of {result['n_points']}: ripser.py over redzed",
            f"**{result['times_redzed']['ripser']:.0f}** "
            f"({1e3 * result['seconds']['redzed']:.1f} ms)",
            "≥ 50" if result["n_points"] == 197 else "",
        )


def _dimension(record: dict[str, Any]) -> Iterator[Row]:
    for name, result in record["results"].items():
        yield (
            f"TwoNN, 2,000 {name} points: fastest scikit-dimension over grokjax",
            f"**{result['ratio']:.1f}** ({1e3 * result['seconds']['grokjax']:.0f} ms)",
            "≥ 8",
        )


def _fourier(record: dict[str, Any]) -> Iterator[Row]:
    for result in record["results"]:
        for state in ("early", "generalised"):
            yield (
                f"all Fourier measures, p = {result['prime']}, {state}, over 500 steps",
                f"**{result[state]['share_of_steps']:.1%}**",
                "< 5%" if result["prime"] == 113 else "",
            )


def _topology(record: dict[str, Any]) -> Iterator[Row]:
    for result in record["results"]:
        for name, cost in result["milliseconds_per_run_step"].items():
            if name in result["over_none"]:
                over, looking = result["over_none"][name], result["share_of_look_ups"][name]
                yield (
                    f"{result['model']}, p = {result['prime']}: a step with {name}",
                    f"**{over:.2f}** times one without ({cost:.2f} ms; looking edges up "
                    f"{looking:.1%} of it)",
                    "",
                )


def _report(record: dict[str, Any]) -> Iterator[Row]:
    yield (
        "page of 1,000 runs with 121 checkpoints",
        f"**{record['seconds']:.0f} s**, {record['bytes'] / 1e6:.0f} MB",
        "< 120 s, < 25 MB",
    )
    if phases := record.get("phases"):
        seen, filters = phases["first_view"], phases["filters"]
        slowest = max(filters, key=lambda view: filters[view], default="")
        yield (
            "page of the 1,050 runs of a phase diagram: built, first view, slowest filter, "
            "group or summary",
            f"{phases['seconds']:.0f} s, {phases['bytes'] / 1e6:.0f} MB"
            + (f", **{seen:.1f} s**, **{filters[slowest]:.2f} s** ({slowest})" if filters else ""),
            "< 120 s, < 25 MB, < 3 s, < 0.3 s",
        )


def _devices(record: dict[str, Any]) -> Iterator[Row]:
    from experiments.benchmarks.devices import MOST_OVERHEAD

    for result in record["results"]:
        for name, rate in result["run_steps_per_second"].items():
            share = result["of_twice_one_core"].get(name)
            overhead = result["overhead"].get(name)
            # Measured since a later version than overheads.
            quartiles = result.get("quartiles", {}).get(name)
            spread = (
                "" if quartiles is None else " (quartiles {:+.1%} to {:+.1%})".format(*quartiles)
            )
            yield (
                f"{result['model']}, p = {result['prime']}, {name}",
                f"{rate:.1f} run-steps a second"
                + ("" if share is None else f", {share:.1%} of twice one core")
                + ("" if overhead is None else f"; overhead **{overhead:+.1%}**{spread}"),
                "" if overhead is None else f"< {MOST_OVERHEAD:.0%}",
            )
        yield (
            f"{result['model']}, p = {result['prime']}: a core a device, over both cores as one",
            f"**{result['gain']:.2f}** times the rate",
            "",
        )


def _plan(record: dict[str, Any]) -> Iterator[Row]:
    from experiments.benchmarks.plan import REQUIRED

    units = {"seconds": (1, "s"), "disk": (1e6, "MB"), "memory": (1e6, "MB")}
    for result in record["results"]:
        for key, (unit, name) in units.items():
            planned, measured = (result[which][key] / unit for which in ("planned", "measured"))
            yield (
                f"{result['sweep']}: {key}, planned over measured",
                f"**{result['off'][key]:+.0%}** ({planned:,.0f} for {measured:,.0f} {name})",
                f"within {REQUIRED[key]:.0%}",
            )


def _many(record: dict[str, Any]) -> Iterator[Row]:
    from experiments.benchmarks.many import MOST_DISK, MOST_MEMORY

    every = sum(record["results"][0]["disk"].values())
    for result in record["results"]:
        where = (
            f"{record['runs']:,} runs, {record['checkpoints']} checkpoints, --keep={result['keep']}"
        )
        disk = sum(result["disk"].values())
        yield (
            f"{where}: peak memory",
            f"**{result['memory'] / 1e9:.2f} GB**",
            f"< {MOST_MEMORY / 1e9:.0f} GB",
        )
        yield (
            f"{where}: disk",
            f"**{disk / 1e6:.0f} MB** ("
            + ", ".join(f"{kind} {n / 1e6:.0f}" for kind, n in result["disk"].items())
            + f"; checkpoints at most {result['most_disk'] / 1e6:.0f})",
            "" if result["keep"] == "all" else f"< {MOST_DISK * every / 1e6:.0f} MB",
        )
        yield f"{where}: time not spent training", f"**{result['not_training']:.0%}**", ""


def _compiled(record: dict[str, Any]) -> Iterator[Row]:
    from experiments.benchmarks.compiled import (
        REQUIRED,
        REQUIRED_KERNELS,
        STEPS_A_CALL,
        TRAININGS,
        Asked,
    )

    def key(result: dict[str, Any]) -> str:
        return dataclasses.replace(Asked.of(result), steps=STEPS_A_CALL).name

    before = {key(result): result for result in record["before"]}
    for result in record["results"]:
        own, loop, first = result["milliseconds"], result["loop"], before.get(key(result))
        was = "" if first is None else f", before {first['milliseconds']['estimate']:.4f}"
        kernels = "" if first is None else f" (before {first['loop']['kernels']})"
        asked = required_kernels = None
        trains = result["program"] in TRAININGS
        if trains and (result["model"], result["runs"]) == ("transformer", 45):
            asked = REQUIRED.get((result["target"], result["precision"]))
            required_kernels = REQUIRED_KERNELS.get((result["target"], result["precision"]))
        others = ", ".join(f"{n} {name}" for name, n in loop.items() if name != "kernels")
        memory = sum(result["bytes_of"].values()) - 2 * result["bytes_of"]["alias"]
        yield (
            key(result),
            f"**{own['estimate']:.4f} ms** a run{was} (products alone {own['products']:.3f}, bytes "
            f"alone {own['memory']:.3f}); {loop['kernels']} kernels{kernels}, {others}; "
            f"{result['flops'] / 1e9:.2f} GFLOP, {result['bytes'] / 1e6:.0f} MB a run; memory "
            f"{memory / 1e9:.2f} GB; compiled in {result['compile_seconds']:.0f} s of a core",
            ", ".join(
                text
                for text, n in (
                    (f"≤ {asked} ms", asked),
                    (f"≤ {required_kernels} kernels", required_kernels),
                )
                if n is not None
            ),
        )
    yield from _compiled_lenses(record["results"])


def _compiled_lenses(results: Sequence[dict[str, Any]]) -> Iterator[Row]:
    from experiments.benchmarks.compiled import LENSES, TRAININGS
    from experiments.benchmarks.lenses import MOST_SHARE, STEPS

    for own in results:
        if own["program"] not in TRAININGS or own["precision"] != "float32":
            continue
        kind = {name: own[name] for name in ("target", "model", "runs")}
        looks = [other["milliseconds"]["estimate"] for other in results
                 if kind.items() <= other.items() and other["program"] in LENSES]  # fmt: skip
        if len(looks) == len(LENSES):
            share = sum(looks) / (STEPS * own["milliseconds"]["estimate"])
            yield (
                f"{own['target']}, {own['runs']} {own['model']}s: all lenses of a checkpoint over "
                f"{STEPS} steps",
                f"**{share:.1%}**",
                f"< {MOST_SHARE:.0%}" if own["target"] == "h100" else "",
            )


def _lenses(record: dict[str, Any]) -> Iterator[Row]:
    from experiments.benchmarks import lenses

    for result in record["results"].get("sweeps", ()):
        own, before = result["found"]["with"], result["before"]
        what = f"transformer, p = 113, {result['size']}, {result['steps']:,} steps: "
        seconds = ", ".join(f"{k} {v['seconds']:.0f} s" for k, v in result["found"].items())
        was = f"; before: {before['ratio']:.0%}" if "ratio" in before else ""
        least = f"≤ {lenses.MOST_RATIO:.0%}"
        yield (
            what + "with lenses over without",
            f"**{result['ratio']:.1%}** ({seconds}{was})",
            least,
        )
        was = ", ".join(
            f"{k.replace('_', ' ')} {v:,.0f}" for k, v in before.items() if k != "ratio"
        )
        yield (
            what + "run checkpoints waiting at the last step, seconds until all is measured",
            f"**{own['run_checkpoints_waiting']}**, **{own['after_last_step']:.1f} s** "
            f"(before: {was})",
            f"≤ {lenses.MOST_WAITING} of the batch, ≤ {lenses.MOST_SECONDS:.0f} s",
        )
        equal = all(result["tables_equal"].values())
        yield what + "tables equal to analyze's, to the bit", "yes" if equal else "**no**", "yes"
    for part in ("shares", "operations"):
        for result in record["results"].get(part, ()):
            told = result.get("milliseconds") or result["operations"]
            unit = "ms" if part == "shares" else "operations"
            listed = ", ".join(f"{name} {value:,.0f}" for name, value in told.items())
            what = "time" if part == "shares" else "operations on the device"
            yield (
                f"{result['model']}, p = {result['prime']}: {what} of all lenses of a checkpoint "
                f"over {lenses.STEPS} steps",
                f"**{result['share_of_steps']:.1%}** ({listed} {unit})",
                f"< {lenses.MOST_SHARE:.0%}",
            )


_ROWS: dict[str, Callable[[dict[str, Any]], Iterator[Row]]] = {
    "train": _train,
    "scaling": _scaling,
    "devices": _devices,
    "sweep": _sweep,
    "lenses": _lenses,
    "costs": _costs,
    "persistence": _persistence,
    "dimension": _dimension,
    "fourier": _fourier,
    "topology": _topology,
    "report": _report,
    "plan": _plan,
    "many": _many,
    "compiled": _compiled,
}
NAMES = tuple(_ROWS)


def _part(name: str, record: dict[str, Any]) -> str:
    device = ", ".join([*record.get("accelerators", []), record["device"]])
    versions = ", ".join(f"{k} {v}" for k, v in record["versions"].items())
    rows = "\n".join(" | ".join(("", *row, "")).strip() for row in _ROWS[name](record))
    load = f", load average {record['load_average']:.1f}" if "load_average" in record else ""
    return (
        f"`python -m experiments.benchmarks.{name}` on {device}{load}; "
        f"Python {record['python']}, {versions}; commit {(record['commit'] or 'unknown')[:7]}, "
        f"{record['time'][:10]}.\n\n"
        f"| what | measured | required |\n|---|---|---|\n{rows}\n"
    )


def write(folder: pathlib.Path) -> str:
    """Writes README.md from every line of every benchmark's file; returns it."""
    sections = []
    for name in NAMES:
        path = folder / f"{name}.json"
        if path.exists():
            records = [json.loads(line) for line in path.read_text().splitlines()]
            parts = "\n".join(_part(name, record) for record in records)
            sections.append(f"## {name}\n\n{parts}")
    text = (
        "# Benchmarks\n\n"
        "Written by `python -m experiments.benchmarks`, which repeats them all (`pip install -e "
        "'.[test,bench]'` first). What is compared takes turns in one process tree, warm; numbers "
        "are medians. Read the ratios rather than the times.\n\n" + "\n".join(sections)
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
    return text
