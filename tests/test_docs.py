"""The documentation is current, whole, and its programs are ones that run."""

import ast
import importlib
import importlib.util
import pkgutil
import re
import unicodedata
from hashlib import sha256
from html import escape
from pathlib import Path

import pytest

import ddim_interp
from ddim_interp.model import Plan
from ddim_interp.sinks import read_recipe

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
CONFIG = (DOCS.parent / "mkdocs.yml").read_text()
TEXTS = [
    *PAGES,
    *(DOCS.parent / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(DOCS.parent.glob("ddim_interp/assets/*/README.md")),
]
PLUMBING = {
    "__main__", "allocator", "as_mapping", "c_library", "cli", "decoding", "files", "keep",
    "kept_file", "pages", "pchip", "progress", "span", "spool", "strict_json", "tensors", "tf32",
    "threads", "unet", "user_cache", "watch", "web",
}  # fmt: skip
"""Modules that only other modules call; the rest is in the reference."""


def name(path: Path) -> str:
    return str(path.relative_to(DOCS.parent))


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
    assert re.search(rf": {re.escape(str(page.relative_to(DOCS)))}$", CONFIG, re.MULTILINE)


def test_the_contents_name_pages_that_exist():
    listed = re.findall(r": (\S+\.md)$", CONFIG, re.MULTILINE)
    assert listed and all((DOCS / page).exists() for page in listed)


def prose(page: Path) -> str:
    """What a page says outside its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The names by which the site's generator lets one link to a page's headings."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        plain = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
        found.add(re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower()))
    return found


@pytest.mark.parametrize("page", TEXTS, ids=name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", prose(page))
    links += [(source, "") for source in re.findall(r'src="([^"]+)"', prose(page))]
    for target, anchor in links:
        if not target.startswith(("http://", "https://")):
            there = page.parent / target if target else page
            assert there.exists(), target
            assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


def test_every_table_that_a_program_writes_has_its_place(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(DOCS)
    marks, fidelity = importlib.import_module("marks"), load(DOCS / "write_fidelity.py")
    places = {
        DOCS / "fidelity.md": fidelity.PARTS,
        DOCS.parent / "README.md": ["there_and_back"],
        DOCS / "morphs.md": ["settings", "pace", "metrics", "middles"],
        DOCS / "speed.md": ["machine", "forwards", "film", "steps", "growth", "programs"],
    }
    for page, names in places.items():
        copy = tmp_path / page.name
        copy.write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
        marks.renew(copy, **{name: f"This is {name}." for name in names})
        text = copy.read_text(encoding="utf-8")
        assert all(f"-->\n\nThis is {name}.\n\n<!--" in text for name in names)


def test_every_picture_is_small_and_has_a_program_that_makes_it():
    showcase, figures = load(DOCS / "write_showcase.py"), load(DOCS / "write_figures.py")
    made = {name for name, home in showcase.KEPT.items() if home == showcase.IMAGES}
    made |= {*(f"{verb}.svg" for verb in showcase.SHOWN), *figures.FIGURES, "training.jpg"}
    made |= {load(DOCS / "write_explore.py").PAGE.name}
    assert {path.name for path in (DOCS / "images").iterdir()} == made
    for path in (DOCS / "images").iterdir():
        assert path.stat().st_size < (1_000_000 if path.suffix == ".webp" else 200_000), path


def test_the_pictures_of_the_readme_are_those_of_its_commands_and_of_the_model_in_the_package():
    showcase, images = load(DOCS / "write_showcase.py"), DOCS / "images"
    weights, commands = sha256(showcase.WEIGHTS.read_bytes()).hexdigest(), showcase.commands()
    for kept, home in showcase.KEPT.items():
        assert sum(f"-o {kept}" in command for command in commands) == 1
        recipe = read_recipe(home / kept)
        assert recipe["weights_sha256"] == weights, "run: make figures"
        assert recipe["plan"]["steps"] == Plan().steps, "run: make figures"
    for verb in showcase.SHOWN:
        (command,) = (each for each in commands if each.startswith(f"ddim-interp {verb} "))
        drawing = (images / f"{verb}.svg").read_text(encoding="utf-8")
        assert f"$ {escape(command)}<" in drawing and weights in drawing, "run: make figures"


def test_every_module_that_is_not_plumbing_is_in_the_reference():
    dotted = re.findall(r"^::: (\S+)$", "\n".join(page.read_text() for page in PAGES), re.MULTILINE)
    documented = {entry.split(".")[1] for entry in dotted}
    modules = {module.name for module in pkgutil.iter_modules(ddim_interp.__path__)}
    assert modules == documented | PLUMBING


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_the_reference_documents_exists(page):
    for dotted in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE):
        try:
            importlib.import_module(dotted)
        except ModuleNotFoundError:
            module, _, member = dotted.rpartition(".")
            assert getattr(importlib.import_module(module), member).__doc__


@pytest.mark.parametrize("page", TEXTS, ids=name)
def test_python_on_the_page_parses_and_imports_what_exists(page):
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("ddim_interp"):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names)


def test_what_is_to_be_cited_is_this_version():
    cited = (DOCS.parent / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {ddim_interp.__version__}\n" in cited


def test_what_one_is_told_to_import_is_there_and_on_the_page_it_links_to():
    rows = re.findall(r"^\| .+ \| (.+) \|$", (DOCS / "api/index.md").read_text(), re.MULTILINE)
    assert len(rows) > 20
    for words, page in re.findall(r"\[([^]]+)\]\((\w+\.md)\)", "".join(rows)):
        modules = re.findall(r"^::: ddim_interp\.(\w+)", (DOCS / "api" / page).read_text(), re.M)
        for dotted in re.findall(r"`([\w.]+)`", words):
            home, *members = dotted.split(".")
            if home == "pipe":
                found = ddim_interp.DDIMPipeline
            elif home in ddim_interp.__all__:
                found = getattr(ddim_interp, home)
            else:
                found = importlib.import_module(f"ddim_interp.{home}")
            for member in members:
                found = getattr(found, member)
            written_in = getattr(found, "__module__", f"ddim_interp.{home}")
            assert written_in.split(".")[1] in modules, dotted


@pytest.mark.parametrize("page", [page for page in TEXTS if page.name != "cli.md"], ids=name)
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
