"""The report: one page that needs nothing, and says what the numbers say."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from ddim_interp.consistency import check_model
from ddim_interp.denoiser import GaussianDenoiser
from ddim_interp.latents import draw
from ddim_interp.model import Model, Plan
from ddim_interp.report import render_report
from ddim_interp.schedule import NoiseSchedule

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>.png"

FACTS = {"model": "<b>gauss</b>", "spacing": "log-snr", "repairs": []}


@pytest.fixture(scope="module")
def found():
    model = Model(
        GaussianDenoiser(variance=0.2), NoiseSchedule.from_config({}), (3, 16, 16), "gauss"
    )
    pictures = 0.4 * draw([1, 2], model.shape)
    return check_model(model, pictures, draw([3], model.shape), Plan(), steps=(4, 8))


@pytest.fixture(scope="module")
def page(found):
    document = found.describe([EVIL, "b.png"]) | FACTS
    return render_report(document, found)


class Reader(HTMLParser):
    """Collects tags and their attributes."""

    def __init__(self, page):
        super().__init__()
        self.tags = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_the_page_runs_nothing_and_fetches_nothing(page):
    tags = Reader(page).tags
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & {
        t for t, _ in tags
    }
    for tag, attributes in tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in {"src", "href", "xlink:href"} & attributes.keys():
            assert attributes[name].startswith(("data:image/png;", "#")), attributes[name]
    assert not re.search(r"url\((?!#)|@import", page)


def test_the_policy_comes_before_anything_it_could_forbid(page):
    tags = Reader(page).tags
    policy = next(a["content"] for t, a in tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "script" not in policy
    names = [t for t, _ in tags]
    assert names.index("meta") < names.index("style")


def test_names_stay_names(page):
    assert "<script" not in page and "<b>gauss" not in page and "onerror=alert(2)>" not in page
    assert "&lt;script&gt;alert(1)" in page and "&lt;b&gt;gauss" in page


def test_every_plot_is_sound_svg_and_every_picture_is_there(page):
    plots = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(plots) == 3
    for plot in plots:
        assert ElementTree.fromstring(plot).tag.endswith("svg")
    images = [a["src"] for t, a in Reader(page).tags if t == "img"]
    assert len(images) == 2 * 4
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in images)


@pytest.mark.parametrize(
    ("residuals", "axis"),
    [((), None), ((0.1,), ">picture<"), ((0.1, 0.2), ">step, from the picture on<")],
)
def test_what_was_missed_is_plotted_where_anything_can_be(found, residuals, axis):
    missed = tuple(replace(each, residuals=residuals) for each in found.certificates)
    found = replace(found, inversion=replace(found.inversion, certificates=missed))
    page = render_report(found.describe(["a.png", "b.png"]) | FACTS, found)
    assert page.count("<svg") == 3 + bool(axis)
    assert not axis or axis in page


def test_the_page_says_the_verdict_and_every_row(page, found):
    assert found.verdict[1:] in page.replace("&#39;", "'")
    rows = re.findall(r"<tr><td>(\d+)</td><td>([\w-]+)</td>", page)
    assert rows == [(str(trip.steps), trip.method) for trip in found.table]


def test_the_same_figures_give_the_same_page(page, found):
    document = found.describe([EVIL, "b.png"]) | FACTS
    assert render_report(document, found) == page


def test_a_method_that_fails_is_shown_as_failing(found):
    from dataclasses import replace

    row = replace(found.table[0], trouble="Step 3 turned picture 0 into NaN.")
    broken = replace(found, table=(row, *found.table[1:]))
    document = broken.describe(["a", "b"]) | FACTS
    assert "Step 3 turned picture 0 into NaN." in render_report(document, broken)


def test_a_gaussian_model_is_consistent(found):
    """Exact inversion comes back, and the way from z to its re-inversion is one picture."""
    naive, exact = (trip for trip in found.table if trip.steps == 8)
    assert exact.mse < 1e-10 < naive.mse
    assert found.standing.faithful
    assert [each.steps for each in found.doublings] == [4, 8]
    assert found.doublings[0].fidelity.mse > found.doublings[1].fidelity.mse


def test_the_report_is_written_whole_and_never_over_another(tiny_folder, tmp_path, monkeypatch):
    import sys

    from ddim_interp.cli import _run

    page = tmp_path / "report.html"
    arguments = [
        "check",
        "--model",
        str(tiny_folder),
        "--steps",
        "3",
        "-q",
        "--repairs",
        "--report",
        str(page),
    ]
    monkeypatch.setattr(sys, "argv", ["ddim-interp", *arguments])
    assert _run() == 0
    text = page.read_text()
    assert text.startswith("<!DOCTYPE html>") and text.rstrip().endswith("</html>")
    assert str(tmp_path) not in text
    assert [name for name in ("channels", "forward-2") if f"<td>{name}</td>" not in text] == []
    assert _run() == 73 and page.read_text() == text
