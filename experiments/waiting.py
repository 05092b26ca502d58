"""Two processes of one job whose shards take unequal time: does either wait for the other?

Question: when does each process begin, train, measure and end, where the other has many times, or a
small part of, its work?
Command: python -m experiments.waiting [--workdir W] [--out experiments/results/waiting]; 2 CPU
cores, half a minute.
Found, with what it means: experiments/results/waiting/README.md.

Two runs, a narrow and a wide MLP, are cut into two shards;
``grokjax.sweep`` is started twice, as a launcher does it, and each line that a process says is
timed as it comes. Process k trains shard k, and the dearest run is in shard 0.
"""

import argparse
import dataclasses
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time

import matplotlib.pyplot as plt
import pandas as pd

from experiments import html_page
from grokjax.report import figures

# The width of each network.
WIDTHS = (64, 1050)
FLAGS = (
    *("--models=mlp", "--primes=31", "--train_fractions=0.5", "--seeds=1", "--batch_size=256"),
    *("--d_model=64", f"--mlp_width={','.join(map(str, WIDTHS))}", "--mlp_depth=2"),
    *("--steps=2000", "--checkpoint_every=200", "--diagnostics=persistence,fourier"),
)
# What a process says as each of its stages ends; the last ends with it.
STAGES = {
    "starting and compiling": r"first step after",
    "training, measuring beside it": r"step 2,000 \|",
    "measuring what is left": r"after compilation",
    "joining": r"parts joined",
    "reporting": r"^report: ",
}
COLOURS = dict(zip(STAGES, ("#bbbbbb", "#2a78b0", "#5fb0a0", "#f2c14e", "#8d6a9f"), strict=True))


@dataclasses.dataclass
class Watched:
    """A process, what it said and when, in seconds since ``begun``."""

    process: subprocess.Popen[str]
    begun: float
    lines: list[tuple[float, str]] = dataclasses.field(default_factory=list)
    ended: float = 0.0

    def listen(self) -> None:
        """Until it ends."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append((time.monotonic() - self.begun, line.rstrip()))
        self.process.wait()
        self.ended = time.monotonic() - self.begun

    def stages(self) -> list[tuple[str, float, float]]:
        """Stages that it had, with their beginnings and ends."""
        found, since = [], 0.0
        waited = any("waiting for the other processes' parts" in line for _, line in self.lines)
        for stage, pattern in STAGES.items():
            if stage == "joining" and not waited:
                continue
            until = next((at for at, line in self.lines if re.search(pattern, line)), None)
            if until is not None:
                found.append((stage, since, until))
                since = until
        return [*found, ("ending", since, self.ended)]


def run(workdir: pathlib.Path) -> list[Watched]:
    """Both processes, from their start to their ends."""
    shutil.rmtree(workdir, ignore_errors=True)
    begun, found = time.monotonic(), []
    for index in range(2):
        command = [sys.executable, "-u", "-m", "grokjax.sweep", *FLAGS, f"--workdir={workdir}"]
        command += ["--num_processes=2", f"--process_id={index}"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        found.append(Watched(process, begun))
    threads = [threading.Thread(target=own.listen) for own in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for own in found:
        if own.process.returncode:
            raise SystemExit("\n".join(line for _, line in own.lines))
    return found


def table(found: list[Watched]) -> pd.DataFrame:
    """A row a stage of a process."""
    return pd.DataFrame(
        [
            {
                "process": index,
                "stage": stage,
                "from": round(since, 1),
                "to": round(until, 1),
                "seconds": round(until - since, 1),
            }
            for index, own in enumerate(found)
            for stage, since, until in own.stages()
        ]
    )


def draw(frame: pd.DataFrame) -> plt.Figure:
    """A bar a process, a colour a stage."""
    colours = COLOURS | {"ending": "#dddddd"}
    figure, axes = plt.subplots(figsize=(7.2, 2.6), layout="constrained")
    for stage in colours:
        own = frame[frame["stage"] == stage]
        axes.barh(own["process"], own["seconds"], left=own["from"], color=colours[stage],
                  height=0.55, label=stage if len(own) else None)  # fmt: skip
    axes.set_yticks([0, 1], ["process 0\nwide network", "process 1\nnarrow network"])
    axes.invert_yaxis()
    axes.set_xlabel("seconds since the job began")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def main() -> None:
    """Runs the job, prints the table as Markdown, and draws it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("work/waiting"))
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("experiments/results/waiting")
    )
    options = parser.parse_args()
    frame = table(run(options.workdir))
    options.out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(options.out / "waiting.csv", index=False)
    figures.save(draw(frame), options.out / "waiting.svg")
    print(html_page.markdown(frame))


if __name__ == "__main__":
    main()
