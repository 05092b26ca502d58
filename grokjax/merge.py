"""``python -m grokjax.merge``: joins the work directories of a grid's shards into one.

python -m grokjax.merge --workdir=work/study
python -m grokjax.merge --workdir=work/whole --sources=node1/study,node2/study
python -m grokjax.merge --workdir=work/whole --sources=old,new --mixed_code
"""

import pathlib
import sys
from collections.abc import Sequence

from absl import flags

from grokjax import cli
from grokjax.settings import flags as ours
from grokjax.settings.fields import check, lazy
from grokjax.store import locks

joining = lazy("grokjax.running.joining")  # which takes seconds to import, and --help needs it not

_LISTED = 10  # ids that a message names at most


def define() -> None:
    """The flags of this command."""
    ours.define("workdir", None, "work directory to be made, or to be added to")
    ours.define(
        "sources",
        "",
        "work directories to be joined; default: the shards below --workdir. They are left as "
        "they are",
    )
    ours.define("mixed_code", False, "join sources that different commits trained")


def _sources(target: pathlib.Path, named: Sequence[str]) -> list[pathlib.Path]:
    folders = [pathlib.Path(name) for name in named] or joining.find_sources(target)
    message = f"there is no shard-…/sweep.json below {target}; name the directories"
    check(bool(folders), "sources", "", message)
    for folder in folders:
        message = "holds no sweep (there is no sweep.json)"
        check((folder / "sweep.json").is_file(), "sources", folder, message)
        own = folder.resolve() == target.resolve()
        check(not own, "sources", folder, "is the --workdir to be joined into")
    return folders


def _tell(what: str, run_ids: Sequence[str]) -> None:
    more = f" and {len(run_ids) - _LISTED} more" if len(run_ids) > _LISTED else ""
    print(f"{what}: {', '.join(run_ids[:_LISTED])}{more}", file=sys.stderr)


def main(values: flags.FlagValues) -> int:
    """Joins the sources; returns the exit code, 1 if the grid is not complete."""
    check(bool(values.workdir), "workdir", "", "must name the work directory to be made")
    target = pathlib.Path(values.workdir)
    folders = _sources(target, ours.names(values.sources))
    if target.exists() and not (target / "sweep.json").exists():
        for name in (path.name for path in target.iterdir()):
            message = f"holds no sweep but {name}; name a new or empty directory"
            known = name.startswith("shard-") or locks.is_lock(name)
            check(known, "workdir", target, message)
    with joining.holding([target, *folders]):
        merged = joining.merge(target, folders, values.mixed_code)
    n_runs = merged.runs + len(merged.missing)
    print(f"{merged.runs} of {n_runs} runs from {len(folders)} sources: {target}")
    for table in merged.partial:
        print(f"table {table} lacks some runs: python -m grokjax.analyze fills it")
    if merged.missing:
        shards = f" (shards {', '.join(merged.missing_shards)})" if merged.missing_shards else ""
        _tell(f"missing: {len(merged.missing)} runs{shards}", merged.missing)
    if merged.unfinished:
        _tell(f"not finished: {len(merged.unfinished)} runs", merged.unfinished)
    return cli.EXIT_FAILED if merged.missing or merged.unfinished else cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main, define)
