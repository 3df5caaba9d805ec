"""MODEL_CARD.md: what users of an exported model need to know, filled in from the run."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from genlab import __version__, models
from genlab import run as runs
from genlab.console import one_line
from genlab.evaluate import comparison, results

if TYPE_CHECKING:
    from genlab.metadata import Exported


def text(run: runs.Run, exported: Sequence[Exported] = ()) -> str:
    """Return the card as Markdown. `exported` are the files in its folder (see genlab.metadata.Exported), with `grid.png`."""
    sections = [
        _model(run),
        _data(run),
        _training(run),
        _metrics(run),
        _use(run),
        _files(exported),
        _limits(run),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _model(run: runs.Run) -> str:
    summary = (models.load(run.config.model).__doc__ or "").strip().splitlines()[0]
    return f"# {_line(run.name)}\n\n`{run.config.model}`: {summary}\n\n![Samples](grid.png)"


def _data(run: runs.Run) -> str:
    facts = run.config.dataset
    shape = "×".join(map(str, facts["shape"]))
    lines = [
        "## Data",
        "",
        f"{_line(facts['name'])}: {facts['train_images']:,} training examples of {shape}, SHA-256 `{facts['sha256']}`.",
    ]
    if facts["num_classes"]:
        names = [_line(name) for name in facts["class_names"]]
        shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        lines.append(f"Classes: {shown}.")
        labelled = facts.get("labelled_images", facts["train_images"])
        if labelled < facts["train_images"]:
            lines.append(f"{labelled:,} of the examples had a label, the others none.")
    return "\n".join(lines)


def _training(run: runs.Run) -> str:
    options = run.config.options
    lines = [
        "## Training",
        "",
        f"{run.step:,} steps of {run.config.hparams.batch_size}, seed {options.seed}, computed in {options.precision}, preset "
        f"{run.config.preset}, genlab {__version__}.",
        "",
        _table(["setting", "value"], dataclasses.asdict(run.config.hparams).items()),
    ]
    if run.config.lineage:
        line = "; before that from ".join(
            f"`{_line(each['run'])}` (`{each['model']}`, {_line(each['data'])}, step {each['step']:,})"
            for each in run.config.lineage
        )
        lines[3:3] = [f"Started from the weights of {line}.", ""]
    return "\n".join(lines)


def _metrics(run: runs.Run) -> str:
    if not (run.path / "evaluation.json").exists():
        return f"## Metrics\n\nNot measured. To measure: `python -m genlab.evaluate {run.path.name}`."
    found = results.read(run)
    lines = ["## Metrics", ""]
    if found.step != run.step:
        lines += [f"Measured at step {found.step:,}, not with the weights of this export.", ""]
    rows = []
    for name, metric in found.metrics.items():
        spread = "" if metric.spread is None else f" ± {metric.spread:.2g}"
        floor = "" if metric.floor is None else f"{metric.floor:.4g}"
        rows.append([name.replace("_", " "), f"{metric.value:.4g}{spread}", floor])
    lines.append(_table(["", "this model", "real images"], rows))
    protocol = ", ".join(_line(f"{name.replace('_', ' ')} {value}") for name, value in found.protocol.items())
    return "\n".join([*lines, "", f"Protocol: {protocol}."])


def _use(run: runs.Run) -> str:
    model = run.model
    labels = ", and classes [N], integers from 0 in the order above" if model.conditional else ""
    out = (
        "images [N, height, width, channels], float32 from -1 (black) to 1 (white)"
        if model.spec.is_image
        else "vectors [N, size], float32"
    )
    classifier = (
        ""
        if model.classifier is None
        else "\n\nThe classifier takes such images, and gives a logit for each class, [N, classes], in the order above."
    )
    return f"## Use\n\nInput: latents [N, {model.latent_size}], drawn from {model.prior.sentence}{labels}. Output: {out}.{classifier}"


def _files(exported: Sequence[Exported]) -> str:
    if not exported:
        return ""
    head = ["file", "runtime", "largest difference from the run", "SHA-256"]
    rows = [
        [f"`{each['file']}`", each["runtime"], f"{each['largest_difference']:.1e}", f"`{each['sha256'][:16]}…`"]
        for each in exported
    ]
    return f"## Files\n\n{_table(head, rows)}"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_line(cell).replace('|', '&#124;') for cell in line)} |" for line in lines)


def _line(text: object) -> str:
    """Return text, such as the name of a class, in which nothing ends the line or is markup of HTML."""
    return html.escape(one_line(text), quote=False)


def _limits(run: runs.Run) -> str:
    facts = run.config.dataset
    lines = [
        "## Limits",
        "",
        f"- It only draws images like those of {_line(facts['name'])}, with their gaps and bias.",
        "- Memorization of training images was not checked beyond the metrics above. Do not treat its samples as anonymous "
        "data.",
    ]
    if facts["train_images"] < 5000:
        lines.append(
            f"- {facts['train_images']:,} training examples are few: samples may copy them, or lack what they lack."
        )
    path = run.path / "augment.json"
    if path.exists():
        found, settings, differences = comparison.read(path, "generated", "real")
        for setting, each in zip(settings, differences, strict=True):
            count = "all images" if setting.images is None else f"{setting.name} images per class"
            test = "too few seeds for a p-value" if each.p_holm is None else f"p = {each.p_holm:.2g}"
            lines.append(
                f"- As augmentation of {_line(found['data'])}, {count}: {100 * each.gain:+.2f} points of a classifier's accuracy, {test}."
            )
    else:
        lines.append(
            "- Whether its samples help to train a classifier was not measured. To measure: `python -m genlab.augment`."
        )
    return "\n".join(lines)
