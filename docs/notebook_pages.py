"""MkDocs hook: each notebook becomes a page of its text and code. The notebook itself can be downloaded there."""

import json
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a page beside every notebook."""
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        name = Path(notebook.src_uri).name
        text = to_markdown(Path(notebook.abs_src_path or "").read_text(encoding="utf-8"), name=name)
        files.append(File.generated(config, str(Path(notebook.src_uri).with_suffix(".md")), content=text))
    return files


def to_markdown(notebook: str, *, name: str) -> str:
    """The cells of a notebook as Markdown, with a link to the notebook below the title."""
    cells = json.loads(notebook)["cells"]
    parts = [_cell(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    title, _, rest = parts[0].partition("\n")
    link = f"[Download this notebook]({name}) and run it; `jupyter lab {name}` opens it."
    return "\n\n".join([title, link, rest.strip(), *parts[1:]]) + "\n"


def _cell(kind: str, source: str) -> str:
    return f"```python\n{source}\n```" if kind == "code" else source
