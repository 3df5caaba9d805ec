"""Mode collapse on the ring of 8 and the grid of 25 Gaussians: modes captured and share of high-quality points.

    python benchmarks/modes_on_points.py [--seeds 10] [--steps 8000]

Results go to benchmarks/results/modes_on_points.json, an entry a run; what is there already is not run again.
"""

from __future__ import annotations

import argparse
import datetime
import json
import pathlib

import numpy as np
from models_on_mnist import machine

import genlab
from genlab import run as runs
from genlab.metrics.modes import mode_figures

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results" / "modes_on_points.json"
MODELS = ("gan", "minibatch_gan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, help="length of a run; by default each model's own")
    arguments = parser.parse_args()
    RESULTS.parent.mkdir(exist_ok=True)
    for seed in range(arguments.seeds):
        for data in ("ring", "grid"):
            for name in MODELS:
                entries = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
                if any((each["model"], each["data"], each["seed"]) == (name, data, seed) for each in entries):
                    continue
                settings = {} if arguments.steps is None else {"steps": arguments.steps}
                run = genlab.fit(name, data, seed=seed, out=HERE / "cache" / "points", **settings)
                drawn = run.model.sample(run.model.sample_latents(np.arange(2500))).numpy()
                dataset = run.data()
                entry = {"model": name, "data": data, "seed": seed}
                entry |= mode_figures(drawn, dataset.modes, dataset.deviation)
                entry |= {
                    "steps": run.config.steps,
                    "seconds": run.metrics()[-1]["seconds"],
                    "date": datetime.date.today().isoformat(),
                    "machine": machine(),
                    "command": f"python -m genlab.train {name} --data {data} --steps {run.config.steps} --seed {seed}",
                }
                print(json.dumps(entry), flush=True)
                runs.write_text(RESULTS, json.dumps([*entries, entry], indent=1) + "\n")


if __name__ == "__main__":
    main()
