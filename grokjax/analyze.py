"""``python -m grokjax.analyze``: measures the checkpoints of a sweep, without training.

python -m grokjax.analyze --workdir=work/first --clouds=all
python -m grokjax.analyze --workdir=work/first --diagnostics=persistence,surrogates --surrogates=199
python -m grokjax.analyze --workdir=work/study --follow --scheduler=local
"""

import contextlib
import time

from absl import flags

from grokjax import cli
from grokjax.settings import flags as ours
from grokjax.settings.fields import lazy
from grokjax.store import errors, locks

# What takes seconds to import, and --help needs none of.
clusters, views = lazy("grokjax.measuring.clusters"), lazy("grokjax.measuring.views")
analyst_of, record = lazy("grokjax.measuring.analyst"), lazy("grokjax.store.record")
isolation, mapped = lazy("grokjax.measuring.isolation"), lazy("grokjax.training.mapped")
_LAST_LOOKS = 35  # two seconds apart: NFS may show a minute late what another machine wrote


def define() -> None:
    """The flags of this command."""
    ours.define_option_flags()
    ours.define_source_flags()
    cli.define_compilation_flag()
    ours.define("workdir", None, "work directory of a sweep")
    ours.define("follow", False, "keep measuring while another process trains, until it is done")
    text = (
        "measure on a dask.distributed cluster: its scheduler's address, or local for one of "
        "processes on this machine; default: threads of this process"
    )
    ours.define("scheduler", None, text)


def main(values: flags.FlagValues) -> int:
    """Measures what is committed and not measured; returns the exit code."""
    folder = cli.existing_workdir(values)
    ours.use_sources(values)
    config = record.read_config(folder)
    options = ours.options_from(values, base=config.options)
    asked = [name for name in values if values[name].present]
    options = views.fitting(options, config.runs, asked, print)
    mapped.use_every_core()
    analyst = analyst_of.Analyst(folder, config, options)
    with errors.storage_errors(folder), locks.owning(folder, locks.ANALYSIS_LOCK):
        for message in analyst.prepare():
            print(message)
        n_expected = len(config.runs) * len(config.train.checkpoint_steps)
        looks = _LAST_LOOKS if values.follow else 0
        while True:
            # Before measuring, and in this order: what is let go meanwhile must not count twice.
            n_gone = sum(len(batch.run_ids) for batch, _ in analyst.gone())
            n_committed = sum(len(batch.run_ids) for batch, _ in analyst.committed())
            is_whole = False
            with contextlib.suppress(*[errors.AbsentError] if looks else []):
                if values.scheduler:
                    clusters.measure_all(analyst, values.scheduler, _tell)
                else:
                    analyst.measure_all(_tell)
                for error in analyst.reader.unreadable.values():
                    raise error
                is_whole = True
            analyst.compact()
            if is_whole and (not values.follow or n_committed + n_gone >= n_expected):
                break
            if not looks:
                print("nobody trains in this work directory any more")
                break
            time.sleep(2)
            looks = _LAST_LOOKS if is_whole and locks.is_held(folder) else looks - 1
    gone = f" ({n_gone} were let go, --keep={config.saving.keep})" if n_gone else ""
    print(f"{n_committed} of {n_expected} run checkpoints are there and measured{gone}: {folder}")
    return cli.tell_failures(isolation.sentences(analyst.failures))


def _tell(done: int, total: int) -> None:
    print(f"measured {done} of {total} checkpoints", flush=True)


if __name__ == "__main__":
    cli.run(main, define)
