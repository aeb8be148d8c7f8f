"""MkDocs hook: pages of what lies elsewhere or has another form.

Each notebook becomes a page of its text and code, and can be downloaded there. The model cards, which lie beside the
weights, become pages as well, and links to them are turned there.
"""

import json
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

WEIGHTS = Path("src/ecgforge/weights")
_CARD = re.compile(r"\((?:\.\./)+src/ecgforge/weights/([\w-]+)/README\.md\)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a page beside every notebook, and one for every model card."""
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        name = Path(notebook.src_uri).name
        text = to_markdown(Path(notebook.abs_src_path or "").read_text(encoding="utf-8"), name=name)
        files.append(File.generated(config, str(Path(notebook.src_uri).with_suffix(".md")), content=text))
    for card in sorted(Path(config.config_file_path).parent.glob(f"{WEIGHTS}/*/README.md")):
        text = card.read_text(encoding="utf-8").replace("../../../../docs/", "../")
        files.append(File.generated(config, f"models/{card.parent.name}.md", content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_others: object) -> str:
    """Links to a model card in the source tree lead to its page."""
    return _CARD.sub(lambda link: f"({get_relative_url(f'models/{link[1]}.md', page.file.src_uri)})", markdown)


def to_markdown(notebook: str, *, name: str) -> str:
    """The cells of a notebook as Markdown, with a link to the notebook below the title."""
    cells = json.loads(notebook)["cells"]
    parts = [_cell(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    title, _, rest = parts[0].partition("\n")
    link = f"[Download this notebook]({name}) and run it; `jupyter lab {name}` opens it."
    return "\n\n".join([title, link, rest.strip(), *parts[1:]]) + "\n"


def _cell(kind: str, source: str) -> str:
    return f"```python\n{source}\n```" if kind == "code" else source
