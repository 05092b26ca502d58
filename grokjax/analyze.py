"""``python -m grokjax.analyze``: measures the checkpoints of a sweep, without training."""

import time

from absl import flags

from grokjax import analysis, cli, clusters, datasets, workdir
from grokjax.analysis import Analyst

cli.define_option_flags()
cli.define_mnist_flag()
cli.define_workdir_flag("work directory of a sweep")
flags.DEFINE_boolean("follow", False, "go on while another process trains, until it is done")
flags.DEFINE_string(
    "scheduler",
    None,
    "measure on a dask.distributed cluster: its scheduler's address, or local for one of processes "
    "on this machine; default: threads of this process",
)


def main(values: flags.FlagValues) -> int:
    """Measures what is committed and not measured; returns the exit code."""
    folder = cli.existing_workdir(values)
    if values.mnist_dir:
        datasets.use(values.mnist_dir)
    config = workdir.read_config(folder)
    options = cli.options_from(values, base=config.options)
    analysis.validate(options, list(config.models.values()), config.runs)
    analyst = Analyst(folder, config.runs, config.models, config.train.precision, options)
    with workdir.storage_errors(folder), workdir.owning(folder, workdir.ANALYSIS_LOCK):
        for message in analyst.prepare():
            print(message)
        n_expected = len(config.runs) * len(config.train.checkpoint_steps)
        while True:
            if values.scheduler:
                clusters.measure_all(analyst, folder, options, values.scheduler, _tell)
            else:
                analyst.measure_all(_tell)
            analyst.merge()
            n_committed = sum(len(batch.run_ids) for batch, _ in analyst.committed())
            for error in analyst.unreadable.values():
                raise error
            if not values.follow or n_committed >= n_expected:
                break
            time.sleep(2)
    print(f"{n_committed} of {n_expected} run checkpoints are there and measured: {folder}")
    return cli.tell_failures(analyst.failures.told())


def _tell(done: int, total: int) -> None:
    print(f"measured {done} of {total} checkpoints", flush=True)


if __name__ == "__main__":
    cli.run(main)
