"""The notebook first-hour.ipynb, made of the page first-hour.md.

    python docs/notebook.py          # take over what changed in the page; cells that did not change keep their outputs
    python docs/notebook.py --run    # also run it all, in an empty folder (a quarter of an hour on two CPU cores)

Python blocks become cells, and so do blocks of genlab's commands. Needs the packages of the extra `docs`, and its environment
activated.
"""

from __future__ import annotations

import argparse
import base64
import os
import pathlib
import re
import tempfile

import nbclient
import nbformat
from nbformat import NotebookNode, v4

from genlab import files

DOCS = pathlib.Path(__file__).parent
PAGE = DOCS / "first-hour.md"
NOTEBOOK = DOCS / "first-hour.ipynb"
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
COMMAND = "python -m genlab."
PICTURES = {
    "first-hour/styles.png": "latents = run.model.sample_latents",
    "first-hour/collapse.png": "def last_grid",
    "first-hour/all-modes.png": 'last_grid("2")',
}
"""Pictures of the page, and the beginnings of the cells that draw them."""
COLUMNS = 120
"""Width of the terminal that commands write to: tables are cut to fit."""
PICTURE = re.compile(r"^!\[.*\]\(.*\)\n\n", re.MULTILINE)
"""A picture of the page: the notebook draws its own."""
SHOWN = re.compile(r"^It prints:\n\n```text\n.*?^```\n\n", re.MULTILINE | re.DOTALL)
"""Output that the page repeats from the notebook."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true", help="run the cells")
    notebook = converted(PAGE.read_text())
    if parser.parse_args().run:
        with tempfile.TemporaryDirectory() as folder:
            run(notebook, folder)
    else:
        keep_outputs(notebook, nbformat.read(NOTEBOOK, as_version=4))
    files.write_text(NOTEBOOK, nbformat.writes(notebook) + "\n")
    for name in PICTURES:
        (DOCS / name).write_bytes(picture(notebook, name))


def converted(page: str) -> NotebookNode:
    """Return a page as a notebook without outputs."""
    page = PICTURE.sub("", SHOWN.sub("", page))
    page = re.sub(r"^The same hour as a notebook.*\n\n", "", page, flags=re.MULTILINE)
    cells, end = [], 0
    for block in BLOCK.finditer(page):
        kind, text = block.groups()
        if kind == "sh" and not text.startswith(COMMAND):
            continue  # for a terminal: it stays in the text
        cells += [v4.new_markdown_cell(page[end : block.start()].strip())] if page[end : block.start()].strip() else []
        cells.append(v4.new_code_cell(text.strip() if kind == "python" else as_cell(text)))
        end = block.end()
    cells.append(v4.new_markdown_cell(page[end:].strip()))
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return v4.new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})


def as_cell(commands: str) -> str:
    """Return command lines as a notebook runs them."""
    return "\n".join(f"!{line}" for line in commands.strip().splitlines())


def run(notebook: NotebookNode, folder: str | os.PathLike[str]) -> None:
    """Run a notebook in a folder. Raises nbclient.exceptions.CellExecutionError for a cell that fails."""
    client = nbclient.NotebookClient(
        notebook, timeout=3600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=os.environ | {"COLUMNS": str(COLUMNS)})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.metadata.pop("execution", None)  # the times of day
            cell.outputs = tidied(cell.outputs)


def tidied(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Return outputs as they look in the end: text in one piece, without states of progress bars, and pictures in one format."""
    kept: list[NotebookNode] = []
    for output in outputs:
        if output.output_type != "stream":
            if "image/png" in output.data:
                output.data.pop("image/jpeg", None)
            kept.append(output)
        elif output.name == "stdout" and kept and kept[-1].output_type == "stream":
            kept[-1].text += output.text
        elif output.name == "stdout":
            kept.append(output)
    for output in kept:
        if output.output_type == "stream":
            lines = output.text.replace("\r\n", "\n").split("\n")
            output.text = "\n".join(line.rpartition("\r")[2] for line in lines)
    return kept


def picture(notebook: NotebookNode, name: str) -> bytes:
    """Return a picture of the page, as its cell drew it."""
    (cell,) = (cell for cell in notebook.cells if cell.source.startswith(PICTURES[name]))
    return base64.b64decode(cell.outputs[-1].data["image/png"])


def keep_outputs(notebook: NotebookNode, stored: NotebookNode) -> None:
    """Give cells the outputs of the stored cells with the same code."""
    outputs = {cell.source: cell for cell in stored.cells if cell.cell_type == "code"}
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source in outputs:
            cell.outputs = outputs[cell.source].outputs
            cell.execution_count = outputs[cell.source].execution_count


if __name__ == "__main__":
    main()
