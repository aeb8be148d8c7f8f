"""Pages taken apart: fenced blocks, the commands in them, code in the text, links and headings."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
# They tell what was, not what to type.
RECORDS_OF_THE_PAST = (DOCS / "log.md", DOCS / "generators-left-out.md", *DOCS.glob("results/**/*.md"))

_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r'title="([^"]+)"')
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        line: Of the page, where it begins.
        language: First word after the fence.
        title: File name it is shown under; "" where it has none.
        text: What is in it.
    """

    line: int
    language: str
    title: str
    text: str


def pages() -> list[Path]:
    """The site's pages that tell users what to type, and the README."""
    return [README, *(path for path in sorted(DOCS.rglob("*.md")) if path not in RECORDS_OF_THE_PAST)]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text()
    found = []
    for match in _FENCE.finditer(text):
        language, _, rest = match["info"].strip().partition(" ")
        title = _TITLE.search(rest)
        lines = [line.removeprefix(match["indent"]) for line in match["text"].splitlines()]
        found.append(
            Block(text.count("\n", 0, match.start()) + 1, language, title[1] if title else "", "\n".join(lines) + "\n")
        )
    return found


def commands(text: str) -> list[list[str]]:
    r"""The commands of a `sh` block as words; comments go, `\` joins lines, `&&` parts commands.

    Raises:
        ValueError: a page uses more of the shell than that.
    """
    found: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if any(word in ("|", ">", "<", "&", ";") or "$" in word for word in words):
            raise ValueError(f"expected plain commands on a page, got {line!r}")
        while "&&" in words:
            place = words.index("&&")
            found.append(words[:place])
            words = words[place + 1 :]
        if words:
            found.append(words)
    return found


def commands_on(page: Path) -> list[list[str]]:
    """All commands of a page, in order."""
    return [words for block in blocks(page) if block.language == "sh" for words in commands(block.text)]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def inline_code(page: Path) -> list[str]:
    """What stands in single backticks."""
    return _INLINE.findall(prose(page))


def links(page: Path) -> list[str]:
    """Targets of links and pictures."""
    return _LINK.findall(_INLINE.sub("", prose(page)))


def anchors(page: Path) -> set[str]:
    """What `#...` may point to: the page's headings as MkDocs names them."""
    return set(_slugs(prose(page)))


def _slugs(text: str) -> Iterator[str]:
    for heading in re.findall(r"^#+ +(.+)$", text, re.MULTILINE):
        plain = re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower()
        yield re.sub(r"[-\s]+", "-", plain)
