"""Mutation tests: which changes of a loss, an update, a prior, a metric or a statistic does no test notice?

    python benchmarks/mutants.py [--per-module 12] [--modules genlab/networks/losses.py ...]
    python benchmarks/mutants.py --again                         # survivors once more, after new tests
    python benchmarks/mutants.py --read 1a2b3c4d "equivalent: any seed would do"

mutmut's operators change one place of a module at a time: a number, an operator, an argument. A random sample of each module's
mutants is tested, each in a process of its own, on a copy of the sources in a temporary folder; the working tree is never
changed. Only the quick tests in MODULES run. A mutant is killed if one of them fails, and survives if all pass.

Not mutated: what people read (messages, drawings, reports), settings (presets and defaults) and decorated functions.

Results go to benchmarks/results/mutants.json, an entry for each mutant, and mutants.md. What is there already is not tested
again, so the script can be stopped and called again. Needs `pip install -e ".[benchmarks]"` and Linux or macOS.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import functools
import hashlib
import itertools
import multiprocessing
import os
import pathlib
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import libcst

# The processes of tests load this file too. genlab, which `results` imports, must be the mutated copy there: it is imported
# inside of functions.

KEPT = "mutants"
ROOT = pathlib.Path(__file__).resolve().parent.parent
COPIED = ("genlab", "tests", "pyproject.toml")
LEAST_SECONDS, FACTOR = 120, 4
"""A mutant's tests may take FACTOR times as long as those of the module itself, and at least LEAST_SECONDS."""
DRAWING = ("pictures", "plot", "report")
"""Functions that draw."""
PRELOADED = (
    "tensorflow",
    "keras",
    "tensorflow_probability.python.distributions",
    "sklearn.mixture",
    "sklearn.neighbors",
    "scipy.stats",
    "matplotlib.pyplot",
    "imageio.v3",
    "pytest",
)
"""Imported once, by the process that those of the tests are forked from. None of them starts threads of TensorFlow's."""


def conformance(*names: str) -> str:
    """Return the part of a -k expression that selects a model's tests in tests/test_models.py."""
    tests = ("step_changes_every_weight", "update_lowers_its_own_loss")
    return " or ".join(f"({test} and {name}-)" for name in names for test in tests)


MODULES = {
    "genlab/networks/losses.py": "tests/test_losses.py tests/test_semi_gan.py -k 'test_losses or softmax or by_hand or matching or "
    "consistency_counts'",
    "genlab/networks/priors.py": "tests/test_priors.py",
    "genlab/networks/averaging.py": "tests/test_networks.py -k average",
    "genlab/networks/optimizers.py": "tests/test_networks.py -k 'adam or optimizer'",
    "genlab/models/_adversarial.py": "tests/test_gan.py tests/test_training_steps.py tests/test_cgan.py tests/test_networks.py "
    "tests/test_minibatch_gan.py tests/test_wgan.py tests/test_models.py tests/test_spectral_normalization.py -k "
    f"'(test_gan and not points_take and not vectors) or rates_fall or lazy_penalty or both_networks or test_wgan or "
    f"dropout_in_sampling or any_discriminator or every_weight_matrix or one_power_iteration or {conformance('[gan', '[cgan')}'",
    "genlab/models/_encoder_decoder.py": "tests/test_autoencoder.py tests/test_vae.py tests/test_models.py -k "
    f"'by_hand or averages or draws_from or test_vae or textbook or {conformance('[autoencoder', '[vae')}'",
    "genlab/models/autoencoder.py": "tests/test_autoencoder.py tests/test_models.py -k "
    f"'by_hand or textbook or {conformance('[autoencoder')}'",
    "genlab/models/base.py": "tests/test_networks.py tests/test_training_steps.py tests/test_cgan.py tests/test_began.py "
    "tests/test_models.py -k 'schedules or optimizer or ignores_its_neighbours or rates_fall or the_weighted_mean or labels_are "
    f"or k_follows or {conformance('[gan', '[cgan', '[autoencoder')}'",
    "genlab/models/began.py": f"tests/test_began.py tests/test_models.py -k 'test_began or {conformance('[began')}'",
    "genlab/networks/ode.py": "tests/test_flow.py -k 'solvers or density or hutchinson or bits'",
    "genlab/models/flow.py": f"tests/test_flow.py tests/test_models.py -k '(test_flow and not page) or {conformance('[flow')}'",
    "genlab/models/gan.py": f"tests/test_gan.py tests/test_models.py tests/test_watch.py -k 'scores or simultaneous or "
    f"textbook or game_is_over or {conformance('[gan')}'",
    "genlab/models/semi_gan.py": f"tests/test_semi_gan.py tests/test_models.py -k 'step_reports or not_used or averaged_weights or "
    f"noise_is or {conformance('[semi_gan')}'",
    "genlab/models/vae.py": f"tests/test_vae.py tests/test_models.py -k 'test_vae or {conformance('[vae')}'",
    "genlab/models/wgan.py": f"tests/test_wgan.py tests/test_gan.py tests/test_models.py -k 'test_wgan or penalty_is_added or "
    f"{conformance('[wgan')}'",
    "genlab/evaluate/metrics/classes.py": "tests/test_metrics.py -k 'inception or balance or shares'",
    "genlab/evaluate/metrics/distances.py": "tests/test_metrics.py -k 'frechet or kernel'",
    "genlab/evaluate/metrics/modes.py": "tests/test_metrics.py -k modes",
    "genlab/evaluate/metrics/neighbours.py": "tests/test_metrics.py -k 'neighbour or nearest or memorization'",
    "genlab/evaluate/metrics/reconstruction.py": "tests/test_metrics.py -k 'reconstruction or ssim'",
    "genlab/evaluate/comparison.py": "tests/test_comparison.py -k 'not model_card'",
}
"""Each module's tests, as arguments of pytest. `cgan`, `dcgan` and `minibatch_gan` hold settings alone."""


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A module with one change."""

    module: str
    function: str
    """The function that is changed; empty for a constant of the module."""
    line: int
    change: str
    """The lines that differ, as in a diff."""
    source: Callable[[], str] = dataclasses.field(compare=False)
    """Returns the whole module."""

    @property
    def id(self) -> str:
        return hashlib.sha256(f"{self.module} {self.function}\n{self.change}".encode()).hexdigest()[:8]


def main() -> None:
    import results

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-module", type=int, default=12, help="mutants of each module, at most")
    parser.add_argument("--modules", nargs="+", default=list(MODULES), choices=MODULES, metavar="MODULE")
    parser.add_argument("--seed", type=int, default=0, help="chooses the mutants")
    parser.add_argument("--again", action="store_true", help="test those that survived once more")
    parser.add_argument("--read", nargs=2, metavar=("ID", "REASON"), help="store why a mutant may survive")
    arguments = parser.parse_args()
    if arguments.read:
        results.add(KEPT, dict(zip(("id", "reason"), arguments.read, strict=True)))
        write_table()
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = pathlib.Path(folder)
        for name in COPIED:
            copied = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
            copied(ROOT / name, copy / name)
        for cache in list(copy.rglob("__pycache__")):  # compiled code of a module may be taken for that of its mutant
            shutil.rmtree(cache)
        try:
            for module in arguments.modules:
                chosen = sample(module, arguments.per_module, arguments.seed)
                outcomes = {id: entry["outcome"] for id, entry in newest().items()}
                done = {id for id, outcome in outcomes.items() if not (arguments.again and outcome == "survived")}
                test(module, [each for each in chosen if each.id not in done], copy)
        finally:
            write_table()


# -- the mutants -------------------------------------------------------------------------------------------------------


def sample(module: str, count: int, seed: int) -> list[Mutant]:
    """Return `count` random mutants of a module. A change of one function leaves the choice among the others as it was."""
    order = lambda each: hashlib.sha256(f"{seed} {each.id}".encode()).digest()  # noqa: E731
    shuffled = sorted({each.id: each for each in mutants(module)}.values(), key=order)
    return list(itertools.islice((each for each in shuffled if compiles(each.source())), count))


def mutants(module: str) -> Iterator[Mutant]:
    """Yield every mutant of a module, by mutmut's operators."""
    import libcst
    from libcst.metadata import MetadataWrapper, PositionProvider
    from mutmut.mutation.file_mutation import Mutation, MutationVisitor, OuterFunctionProvider, deep_replace
    from mutmut.mutation.mutators import mutation_operators
    from mutmut.mutation.pragma_handling import IgnoredCode

    class Visitor(MutationVisitor):
        def on_visit(self, node: libcst.CSTNode) -> bool:
            message = isinstance(node, libcst.SimpleString) and " " in str(node.evaluated_value)
            drawing = isinstance(node, libcst.FunctionDef) and node.name.value in DRAWING
            outside = self.get_metadata(OuterFunctionProvider, node, None) is None
            setting = outside and isinstance(node, libcst.Dict | libcst.Import | libcst.ImportFrom)
            if message or drawing or setting or isinstance(node, libcst.Raise):
                return False
            return super().on_visit(node)

    wrapper = MetadataWrapper(libcst.parse_module((ROOT / module).read_text()))
    whole = wrapper.module
    visitor = Visitor(mutation_operators, IgnoredCode(set(), set(), set()))
    wrapper.visit(visitor)
    starts = wrapper.resolve(PositionProvider)
    for mutation in visitor.mutations:
        outer = mutation.contained_by_top_level_function
        constant = outer is None and isinstance(mutation.original_node, libcst.BaseNumber)
        if not constant and not isinstance(outer, libcst.FunctionDef):
            continue

        def changed(node: libcst.CSTNode, mutation: Mutation = mutation) -> str:
            return whole.code_for_node(deep_replace(node, mutation.original_node, mutation.mutated_node))

        part = outer or whole
        before, after = whole.code_for_node(part).splitlines(), changed(part).splitlines()
        lines = list(difflib.unified_diff(before, after, n=0, lineterm=""))[2:]
        if lines:
            line = int(lines[0].split()[1].lstrip("-").split(",")[0])
            if outer:  # its text begins with the blank lines, comments and decorators before it
                above = len(outer.leading_lines) + len(outer.decorators) + len(outer.lines_after_decorators)
                line += starts[outer].start.line - above - 1
            change = "\n".join(text for text in lines if not text.startswith("@@"))
            name = outer.name.value if outer else ""
            yield Mutant(module, name, line, change, functools.partial(changed, whole))


def compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


# -- their tests -------------------------------------------------------------------------------------------------------


def test(module: str, chosen: list[Mutant], copy: pathlib.Path) -> None:
    """Run the module's tests on each mutant in `copy` of the sources, and store what becomes of it."""
    import results

    if not chosen:
        return
    print(f"{module}: {len(chosen)} mutants", flush=True)
    log, path = copy / "log.txt", copy / module
    original = path.read_text()
    outcome, seconds = tested(copy, MODULES[module], None, log)
    if outcome != "survived":
        raise SystemExit(f"The tests of {module} fail without a mutant:\n{log.read_text()[-3000:]}")
    limit = max(LEAST_SECONDS, FACTOR * seconds)
    for mutant in chosen:
        path.write_text(mutant.source())
        try:
            outcome, seconds = tested(copy, MODULES[module], limit, log)
        finally:
            path.write_text(original)
        facts = {"id": mutant.id, "module": module, "function": mutant.function, "line": mutant.line}
        results.add(KEPT, facts | {"change": mutant.change, "outcome": outcome, "seconds": round(seconds, 1)})


def tested(copy: pathlib.Path, tests: str, limit: float | None, log: pathlib.Path) -> tuple[str, float]:
    """Return `killed`, `survived` or `timeout` for the sources in `copy`, and the seconds that it took."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    process = context.Process(target=run_tests, args=(str(copy), shlex.split(tests), str(log)))
    started = time.perf_counter()
    process.start()
    try:
        process.join(limit)
        outcome = "timeout" if process.exitcode is None else "killed" if process.exitcode else "survived"
    finally:
        assert process.pid is not None
        with contextlib.suppress(ProcessLookupError):  # with the processes that tests started
            os.killpg(process.pid, signal.SIGKILL)
        process.join()
    return outcome, time.perf_counter() - started


def run_tests(copy: str, tests: list[str], log: str) -> None:
    """Run tests of the sources in `copy`, up to the first that fails. The exit status is that of pytest."""
    os.setsid()
    with pathlib.Path(log).open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(copy)
    os.environ["PYTHONPATH"] = copy
    sys.path.insert(0, copy)
    sys.dont_write_bytecode = True
    import pytest

    import genlab

    if not str(genlab.__file__).startswith(copy):
        raise SystemExit(f"genlab was imported from {genlab.__file__}")
    status = pytest.main(["-n", "0", "-x", "-q", "-p", "no:cacheprovider", *tests])
    sys.stdout.flush()
    os._exit(status)  # TensorFlow's threads need not end in order


# -- what was found ----------------------------------------------------------------------------------------------------


def newest() -> dict[str, dict[str, Any]]:
    """Return the newest result of each mutant by its id."""
    import results

    return {entry["id"]: entry for entry in results.entries(KEPT) if "outcome" in entry}


def write_table() -> None:
    """Write mutants.md: the mutants that exist in the sources as they are now, and what became of each."""
    import results

    reasons = {entry["id"]: entry["reason"] for entry in results.entries(KEPT) if "reason" in entry}
    possible = {module: {each.id: each for each in mutants(module)} for module in MODULES}
    found = [entry for entry in newest().values() if entry["id"] in possible[entry["module"]]]
    if not found:
        return
    rows = [row(module, [e for e in found if e["module"] == module], len(possible[module])) for module in MODULES]
    survivors = [
        f"| `{entry['id']}` | {entry['module'].removeprefix('genlab/')}:{possible[entry['module']][entry['id']].line} "
        f"| {code(entry['change'])} | {reasons.get(entry['id'], 'not read yet')} |"
        for entry in sorted(found, key=lambda entry: (entry["module"], entry["line"]))
        if entry["outcome"] == "survived"
    ]
    lines = [
        "# Mutation tests",
        "",
        "Random changes of one place each (mutmut's operators), and whether a quick test fails with them. How they are chosen, and "
        f"what is left out: [mutants.py](../mutants.py). {results.machines(found)}.",
        "",
        "| module | possible | tested | killed | of these, too slow | killed, share |",
        "|---|---|---|---|---|---|",
        *rows,
        row("all", found, sum(map(len, possible.values()))),
        "",
        "## Survivors",
        "",
        "| id | place | change | why it survives |",
        "|---|---|---|---|",
        *survivors,
    ]
    (results.FOLDER / f"{KEPT}.md").write_text("\n".join(lines) + "\n")


def row(name: str, found: list[dict[str, Any]], possible: int) -> str:
    late = sum(entry["outcome"] == "timeout" for entry in found)
    killed = late + sum(entry["outcome"] == "killed" for entry in found)
    share = f"{killed / len(found):.0%}" if found else "–"
    return f"| {name.removeprefix('genlab/')} | {possible:,} | {len(found)} | {killed} | {late} | {share} |"


def code(change: str) -> str:
    """Format a change for a cell of a table."""
    lines: Iterable[str] = (" ".join(line.split()) for line in change.splitlines())
    return "<br>".join(f"`{line}`" for line in lines).replace("|", "\\|")


if __name__ == "__main__":
    main()
