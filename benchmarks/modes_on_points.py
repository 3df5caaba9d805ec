"""Mode collapse on the ring of 8 and the grid of 25 Gaussians: modes captured and fraction of high-quality points.

    python benchmarks/modes_on_points.py [--seeds 10] [--steps 8000]

Results go to benchmarks/results/modes_on_points.json, one entry per run. Existing entries are not run again.
"""

from __future__ import annotations

import argparse

import numpy as np
import results

import genlab
from genlab.evaluate.metrics.modes import mode_metrics

KEPT = "modes_on_points"
MODELS = ("gan", "minibatch_gan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, help="steps per run; by default each model's own")
    arguments = parser.parse_args()
    for seed in range(arguments.seeds):
        for data in ("ring", "grid"):
            for name in MODELS:
                done = [(each["model"], each["data"], each["seed"]) for each in results.entries(KEPT)]
                if (name, data, seed) in done:
                    continue
                settings = {} if arguments.steps is None else {"steps": arguments.steps}
                run = genlab.fit(name, data, seed=seed, out=results.CACHE / "points", **settings)
                drawn = run.model.sample(run.model.sample_latents(np.arange(2500))).numpy()
                dataset = run.data()
                entry = {"model": name, "data": data, "seed": seed}
                entry |= mode_metrics(drawn, dataset.modes, dataset.deviation)
                entry |= {
                    "steps": run.config.steps,
                    "seconds": run.metrics()[-1]["seconds"],
                    "command": f"python -m genlab.train {name} --data {data} --steps {run.config.steps} --seed {seed}",
                }
                results.add(KEPT, entry)


if __name__ == "__main__":
    main()
