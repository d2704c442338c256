"""The documentation is current, whole, and its programs are ones that run."""

import ast
import importlib
import importlib.util
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
CONFIG = (DOCS.parent / "mkdocs.yml").read_text()


def name(path: Path) -> str:
    return str(path.relative_to(DOCS))


def load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_commands_page_says_what_the_commands_say():
    written = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert written == load(DOCS / "write_cli.py").page(), "run: python docs/write_cli.py"


def test_the_figures_are_those_of_the_notebooks():
    for figure, data in load(DOCS / "write_figures.py").figures():
        assert (DOCS / "images" / figure).read_bytes() == data, "run: make notebooks"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_page_is_in_the_contents(page):
    assert re.search(rf": {re.escape(name(page))}$", CONFIG, re.MULTILINE)


def test_the_contents_name_pages_that_exist():
    listed = re.findall(r": (\S+\.md)$", CONFIG, re.MULTILINE)
    assert listed and all((DOCS / page).exists() for page in listed)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_the_reference_documents_exists(page):
    for dotted in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE):
        try:
            importlib.import_module(dotted)
        except ModuleNotFoundError:
            module, _, member = dotted.rpartition(".")
            assert getattr(importlib.import_module(module), member).__doc__


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_on_the_page_parses_and_imports_what_exists(page):
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("ddim_interp"):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "cli.md"], ids=name)
def test_commands_on_the_page_have_the_options_shown(page):
    from ddim_interp.cli import COMMANDS, cli

    pattern = r"^\$ ddim-interp (\w+)(.*?)(?:\s{2,}#.*)?$"
    for verb, rest in re.findall(pattern, page.read_text(), re.MULTILINE):
        assert verb in COMMANDS
        command = cli.get_command(None, verb)
        parts = getattr(command, "commands", None)
        command = parts[rest.split()[0]] if parts else command
        known = {spelling for parameter in command.params for spelling in parameter.opts}
        known |= {spelling for parameter in command.params for spelling in parameter.secondary_opts}
        assert set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest)) <= known
