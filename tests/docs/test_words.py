"""What pages say in passing is true as well: options, commands, files, modules, extras, targets, links."""

import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
from page_blocks import (
    DOCS,
    README,
    RECORDS_OF_THE_PAST,
    ROOT,
    anchors,
    commands_on,
    inline_code,
    links,
    pages,
    prose,
)

from ecgforge.serving.cli import app

PAGES = pages()
SITE = [page for page in PAGES if page != README]


def _commands(group: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from _commands(command, (*path, name))


COMMANDS = dict(_commands(typer.main.get_command(app)))
LEAVES = {path for path, command in COMMANDS.items() if not hasattr(command, "commands")}
OPTIONS = {path: {name for p in command.params for name in p.opts} for path, command in COMMANDS.items()}
ALL_OPTIONS = set().union(*OPTIONS.values()) | {"--help"}
OTHERS_OPTIONS = {"--strict"}  # of other programs, where a page names any


def command_in(words: list[str]) -> tuple[str, ...]:
    """The longest command that words begin with."""
    path: tuple[str, ...] = ()
    for word in words:
        if (*path, word) not in COMMANDS:
            break
        path = (*path, word)
    return path


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_and_options_in_the_text_exist(page: Path) -> None:
    for code in inline_code(page):
        words = code.split()
        if words and words[0] == "ecgforge" and len(words) > 1 and not words[1].startswith("-"):
            path = command_in(words[1:])
            assert path, f"{page}: no command {code}"
            named = {word for word in words if word.startswith("-")}
            assert named <= OPTIONS[path] | {"--help"}, f"{page}: {code}"
        elif code.startswith("-") and words:
            assert words[0] in ALL_OPTIONS | OTHERS_OPTIONS, f"{page}: no option {code}"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_files_and_modules_in_the_text_exist(page: Path) -> None:
    for code in inline_code(page):
        if re.fullmatch(r"(src|tests|docs|benchmarks)/[\w./-]*", code):
            assert (ROOT / code).exists(), f"{page}: no {code}"
        if re.fullmatch(r"ecgforge(\.\w+)+", code):
            _resolve(code)


def _resolve(name: str) -> None:
    """Import a dotted name, or its parent and the attribute."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        parent, _, last = name.rpartition(".")
        assert hasattr(importlib.import_module(parent), last), f"no {name}"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_extras_and_targets_exist(page: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    text = page.read_text()
    for names in re.findall(r"pip install '(?:ecgforge|\.)\[([\w,]+)\]'", text):
        assert set(names.split(",")) <= extras.keys(), f"{page}: {names}"
    makefile = (ROOT / "Makefile").read_text()
    targets = {words[1] for words in commands_on(page) if words[0] == "make"}
    targets |= {code.split()[1] for code in inline_code(page) if re.fullmatch(r"make [\w-]+", code)}
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page}: make {target}"


@pytest.mark.parametrize("page", [*PAGES, *RECORDS_OF_THE_PAST], ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if re.match(r"https?://", link):
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        assert file.is_file(), f"{page}: {link}"
        if page != README:
            on_site = file.is_relative_to(DOCS) or file.match(
                "weights/*/README.md"
            )  # a card has a page, made by a hook
            assert on_site, f"{page}: {link} is not on the site"
        if anchor:
            assert anchor in anchors(file), f"{page}: {link}"


def test_every_command_is_shown_on_a_page_and_listed_in_the_reference() -> None:
    shown = {command_in(words[1:]) for page in SITE for words in commands_on(page) if words[0] == "ecgforge"}
    assert LEAVES - shown == set()
    listed = re.findall(r"^\| `ecgforge ([\w -]+)` \|", (DOCS / "reference" / "serving.md").read_text(), re.MULTILINE)
    assert {tuple(line.split()) for line in listed} == LEAVES and len(listed) == len(LEAVES)


def test_every_preset_of_the_papers_has_its_command() -> None:
    trained = {words[2] for page in SITE for words in commands_on(page) if words[1:2] == ["train"]}
    assert {"sssd-ecg", "wavegan-star", "pulse2pulse", "sssd-ecg-nle", "xresnet1d50-benchmark"} <= trained


def test_registries_have_the_entries_that_extend_names() -> None:
    page = prose(DOCS / "extend.md")
    for module, name in re.findall(r"`(\w+)` of `src/(ecgforge/[\w/]+)\.py`", page):
        found = importlib.import_module(name.replace("/", ".").removesuffix(".__init__"))
        assert hasattr(found, module), f"no {module} in {name}"
    named = {"SAMPLERS", "FORMATS", "LEARNERS", "_GENERATING", "RecordFormat", "SamplerChoice", "NetworkConfig"}
    assert named <= set(inline_code(DOCS / "extend.md"))
