"""Cost of loops as a term of the loss, against the same steps without.

Claim: none; the numbers stand in --help of --topology_every.
Command: python -m experiments.benchmarks.topology [--prime P] [--output FILE]; on 2 cores two
minutes.
Expected: H1 max looked up every 10 steps costs some per cent, H1 total some more.

Two runs of the study's size, warm, a core each. All take turns, so that a busy machine slows them
alike: read the ratios. Networks are in their first few hundred steps, when clouds have no
structure and a look-up is dearest.
"""

import statistics
import time
from typing import Any

import jax
import numpy as np

from experiments.benchmarks import batches, environment
from experiments.benchmarks.turns import median_ratio
from grokjax.models.network import embedding
from grokjax.training import mapped
from grokjax.training.topology import look_up

PACKAGES = ("jax", "jaxlib", "numpy", "redzed-tda")
N_RUNS, NONE = 2, "none"
KINDS = {
    NONE: {},
    "h1_max, every 10": {"topology_weights": "0.1"},
    "h1_max, every 50": {"topology_weights": "0.1", "topology_every": "50"},
    "h1_total, every 10": {"topology_weights": "0.1", "topology_term": "h1_total"},
    "random_edges, every 10": {"topology_weights": "0.1", "topology_term": "random_edges"},
}


class Batch(batches.Batch):
    """A batch whose edges are looked up before each call, as the trainer does."""

    looked = 0.0  # seconds

    def look(self) -> None:
        """Edges of the state as it is."""
        begun = time.perf_counter()
        found = look_up(self.runs, np.asarray(embedding(self.state.params)), self._step)
        self.data = self.data._replace(edges=mapped.place(self.mesh, found))
        self.looked += time.perf_counter() - begun

    def turn(self, n_steps: int) -> tuple[float, float]:
        """Seconds of so many steps, and of looking edges up among them."""
        self.looked = 0.0
        begun = time.perf_counter()
        for _ in range(n_steps // self.n_steps):
            if self.runs[0].static.topology is not None:
                self.look()
            jax.block_until_ready(self._chunk())
        return time.perf_counter() - begun, self.looked


def measure(kind: str, prime: int, repeats: int, n_steps: int) -> dict[str, Any]:
    """Medians of milliseconds a run-step, of ratios to none, and of the share of look-ups."""
    made = {}
    for name, more in KINDS.items():
        # Calls as the trainer makes them: between look-ups, or a hundred steps.
        each = int(more.get("topology_every", 10)) if more else min(100, n_steps)
        made[name] = Batch(kind, prime, N_RUNS, each, **more)
    times: dict[str, list[float]] = {name: [] for name in made}
    shares: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(repeats):
        for name, batch in made.items():
            seconds, looked = batch.turn(n_steps)
            times[name].append(seconds)
            shares[name].append(looked / seconds)
    terms = [name for name in made if name != NONE]
    return {
        "model": kind,
        "prime": prime,
        "milliseconds_per_run_step": {
            name: 1e3 * statistics.median(own) / (N_RUNS * n_steps) for name, own in times.items()
        },
        "over_none": {name: median_ratio(times[name], times[NONE]) for name in terms},
        "share_of_look_ups": {name: statistics.median(shares[name]) for name in terms},
    }


def main() -> None:
    """Measure, print the ratios, and append a JSON line where asked."""
    mapped.use_every_core()  # as a sweep does
    parser = environment.parser(__doc__, repeats=5)
    parser.add_argument("--models", nargs="+", default=["transformer", "mlp"])
    parser.add_argument("--prime", type=int, default=113)
    parser.add_argument("--steps", type=int, default=100, help="a turn, a multiple of 100")
    options = parser.parse_args()

    results = []
    for kind in options.models:
        result = measure(kind, options.prime, options.repeats, options.steps)
        results.append(result)
        print(f"{kind}, p = {options.prime}:")
        for name, milliseconds in result["milliseconds_per_run_step"].items():
            over = result["over_none"].get(name)
            more = "" if over is None else f"  {over:.2f} times none"
            print(f"  {name:24} {milliseconds:8.3f} ms a run-step{more}", flush=True)
    environment.append(options.output, PACKAGES, benchmark="topology", results=results)


if __name__ == "__main__":
    main()
