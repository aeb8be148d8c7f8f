"""A page read as a user does: its files written, its commands given, its Python run, in their order."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from page_blocks import Block, blocks, commands
from tiny_world import smaller

from ecgforge.serving.cli import main

# Programs a page may use beside ecgforge.
PLAIN_PROGRAMS = ("cp",)
# Commands that are not run, and why. Their targets and extras are checked by name in test_words.py.
NOT_RUN = {
    "pip": "installs packages, needs a package index",
    "make": "installs packages first; what it then runs is run here and by CI",
}


class Rehearsal:
    """The shell and the Python session of one page.

    Args:
        folder: Where the page's reader stands.
        patch: For the folder and the arguments of commands.
        address: The service's address on the page and here; asked when Python is run.
    """

    def __init__(
        self, folder: Path, patch: pytest.MonkeyPatch, *, address: Callable[[str], str] = lambda text: text
    ) -> None:
        self.ran: list[list[str]] = []
        self._folder = folder
        self._patch = patch
        self._address = address
        self._names: dict[str, object] = {"__name__": "page"}
        patch.chdir(folder)

    def play(self, page: Path) -> None:
        """All blocks of a page; whatever fails, fails with page and line."""
        for block in blocks(page):
            try:
                self._play(block, page)
            except Exception as error:
                error.add_note(f"on the page {page}, block of line {block.line}")
                raise

    def _play(self, block: Block, page: Path) -> None:
        if block.title:
            (self._folder / block.title).write_text(block.text)
        elif block.language == "sh":
            for words in commands(block.text):
                self._command(words)
        elif block.language == "python":
            # Its line numbers are those of the page.
            code = compile("\n" * block.line + self._address(block.text), str(page), "exec")
            exec(code, self._names)

    def _command(self, words: list[str]) -> None:
        if words[0] in NOT_RUN:
            return
        found = [part for word in words for part in (self._matches(word) if "*" in word else [word])]
        if found[0] == "ecgforge":
            self._ecgforge(found[1:])
        elif found[0] in PLAIN_PROGRAMS and shutil.which(found[0]):
            subprocess.run(found, cwd=self._folder, check=True)
        else:
            raise ValueError(f"expected ecgforge, one of {PLAIN_PROGRAMS} or one of {tuple(NOT_RUN)}, got {words}")

    def _matches(self, pattern: str) -> list[str]:
        """Files of the reader's folder, as a shell would put them in place of the pattern."""
        return [path.relative_to(self._folder).as_posix() for path in sorted(self._folder.glob(pattern))]

    def _ecgforge(self, words: list[str]) -> None:
        """The command as typed, with the smaller numbers of tiny_world; exit code 0 is wanted."""
        self._patch.setattr(sys, "argv", ["ecgforge", *smaller(words)])
        self.ran.append(words)
        try:
            main()
        except SystemExit as end:
            if end.code not in (None, 0):
                raise AssertionError(f"ecgforge {' '.join(words)}: exit code {end.code}") from end
