"""Every command and every piece of Python on the site and in the README does what the page says: it runs."""

from pathlib import Path

import pytest
from page_blocks import DOCS, README, blocks, commands_on, pages
from rehearsal import PLAIN_PROGRAMS, Rehearsal
from tiny_world import hand_out

# What a page's reader has before the first line: made by an earlier page, by the reader, or downloaded.
AT_HAND = {
    "README.md": ("ptb-xl-1.0.3", "100000.pkl"),
    "tasks/generate.md": ("runs/small", "runs/nle"),
    "tasks/complete-and-vary.md": ("out",),
    "tasks/train-on-your-data.md": ("ptb-xl-1.0.3", "my-records"),
    "tasks/copy-a-data-set.md": ("store", "runs/small"),
    "tasks/evaluate.md": ("store", "twin"),
    "tasks/privacy.md": ("store", "runs/small"),
    "tasks/beats-and-interpolations.md": ("store", "twin", "runs/small"),
    "tasks/turing-test.md": ("store", "twin"),
    "tasks/convert-formats.md": ("out",),
    "tasks/use-in-python.md": ("store", "twin"),
    "tasks/original-checkpoints.md": ("100000.pkl", "afib.pkl", "runs/small"),
    "papers.md": ("ptb-xl-1.0.3",),
    "samplers.md": ("store",),
}
LANGUAGES = {"sh", "python", "toml", "csv", "text", ""}


def name_of(page: Path) -> str:
    """README.md, tasks/generate.md, ..."""
    return page.name if page == README else page.relative_to(DOCS).as_posix()


RUNNING = [page for page in pages() if any(block.language in ("sh", "python") for block in blocks(page))]


@pytest.mark.parametrize("page", RUNNING, ids=name_of)
def test_a_page_runs_from_its_first_line_to_its_last(page: Path, rehearsal: Rehearsal, world: Path) -> None:
    hand_out(world, AT_HAND.get(name_of(page), ()), Path.cwd())
    rehearsal.play(page)
    assert rehearsal.ran == [words[1:] for words in _globs_left(page, rehearsal)]


def _globs_left(page: Path, rehearsal: Rehearsal) -> list[list[str]]:
    """The page's ecgforge commands, with what its patterns have become."""
    given = [words for words in commands_on(page) if words[0] == "ecgforge"]
    return [
        ["ecgforge", *ran] if any("*" in word for word in words) else words
        for words, ran in zip(given, rehearsal.ran, strict=True)
    ]


def test_commands_stand_in_blocks_that_are_run() -> None:
    for page in pages():
        for block in blocks(page):
            assert block.language in LANGUAGES, f"{page}:{block.line}: {block.language}"
            typed = any(line.startswith(("ecgforge ", "$ ", "pip ")) for line in block.text.splitlines())
            assert block.language == "sh" or not typed, f"{page}:{block.line}: commands belong into a sh block"


def test_pages_exist_for_what_is_at_hand() -> None:
    assert set(AT_HAND) <= {name_of(page) for page in RUNNING}


def test_a_wrong_option_is_noticed(tmp_path: Path, rehearsal: Rehearsal) -> None:
    page = tmp_path / "page.md"
    page.write_text("```sh\necgforge statements --colour red\n```\n")
    with pytest.raises(AssertionError, match="exit code 2"):
        rehearsal.play(page)


def test_a_failing_command_is_noticed(tmp_path: Path, rehearsal: Rehearsal) -> None:
    page = tmp_path / "page.md"
    page.write_text("```sh\necgforge statements && ecgforge data info nowhere\n```\n")
    with pytest.raises(AssertionError, match="data info nowhere: exit code 1"):
        rehearsal.play(page)
    assert rehearsal.ran == [["statements"], ["data", "info", "nowhere"]]


def test_other_programs_are_refused(tmp_path: Path, rehearsal: Rehearsal) -> None:
    page = tmp_path / "page.md"
    page.write_text("```sh\nrm -r /\n```\n")
    assert "rm" not in PLAIN_PROGRAMS
    with pytest.raises(ValueError, match="got .'rm', '-r'"):
        rehearsal.play(page)


def test_wrong_python_is_noticed_with_its_line(tmp_path: Path, rehearsal: Rehearsal) -> None:
    page = tmp_path / "page.md"
    page.write_text("words\n\n```python\nx = 1\nassert x == 2\n```\n")
    with pytest.raises(AssertionError) as caught:
        rehearsal.play(page)
    assert caught.traceback[-1].lineno == 4  # counted from 0: line 5 of the page
