"""What notebooks see: stills everywhere, films that play, sliders where there are widgets."""

import base64
import re
import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from ddim_interp import Plan, Plate, Reel
from ddim_interp.errors import ArgumentError, OutputError
from ddim_interp.pipeline import ImagePipelineOutput
from ddim_interp.sinks import read_recipe

GREY = [np.full((16, 16, 3), level, np.uint8) for level in range(0, 240, 20)]


def opened(jpeg: bytes) -> Image.Image:
    image = Image.open(BytesIO(jpeg))
    assert image.format == "JPEG"
    return image


@pytest.mark.parametrize("level", [0, 100, 220])
def test_a_plate_holds_its_pictures_where_they_belong(level):
    frames = [GREY[0], GREY[level // 20]]
    image = Plate([frames, frames[::-1]]).image
    assert image.getpixel((64, 64)) == image.getpixel((200, 200)) == (0, 0, 0)
    assert image.getpixel((200, 64)) == image.getpixel((64, 200)) == (level, level, level)


def test_words_stand_beside_above_and_below():
    bare = np.asarray(Plate([[GREY[5]]]).image)
    worded = np.asarray(Plate([[GREY[5]]], beside=["left"], above=["up"], below=["a\nb"]).image)
    margin = worded.shape[1] - bare.shape[1]
    head = 18
    assert (worded[head : head + len(bare), margin:] == bare).all()
    assert worded.shape[0] == len(bare) + 3 * head
    for region in (worded[:, :margin], worded[:head], worded[head + len(bare) :]):
        assert region.min() < 200  # ink


def test_many_pictures_shrink_to_fit_the_page():
    assert Plate([GREY * 4]).image.width <= 1300
    assert Plate([[np.zeros((512, 512, 3), np.uint8)] * 4]).image.width <= 1024


def test_rows_may_differ_in_length():
    image = Plate([GREY[:3], GREY[:1]]).image
    assert image.getpixel((300, 200)) == (255, 255, 255)


@pytest.mark.parametrize("rows", [[], [[]]])
def test_a_plate_of_nothing_is_refused(rows):
    with pytest.raises(ArgumentError, match="give one at least"):
        Plate(rows)


def test_a_reel_plays_every_frame_to_the_bit():
    source = re.search(r"base64,([^\"]+)", Reel(GREY, fps=20)._repr_html_())
    film = Image.open(BytesIO(base64.b64decode(source[1])))
    shown = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(film)]
    assert len(shown) == len(GREY)
    assert all((a == b).all() for a, b in zip(shown, GREY, strict=True))


def test_a_reel_falls_back_on_its_filmstrip_with_both_ends():
    strip = Reel(GREY).strip
    assert len(strip.rows[0]) == 8
    assert (strip.rows[0][0] == GREY[0]).all() and (strip.rows[0][-1] == GREY[-1]).all()
    assert opened(Reel(GREY)._repr_jpeg_()).size == strip.image.size


def test_a_reel_is_saved_with_its_recipe_and_replaces_nothing_unasked(tmp_path):
    reel = Reel(GREY, recipe={"tool": "ddim_interp", "kind": "test"})
    path = reel.save(tmp_path / "film.gif")
    assert read_recipe(path)["kind"] == "test"
    with pytest.raises(OutputError, match="exists"):
        reel.save(path)
    reel.save(path, overwrite=True)


def test_a_reel_of_nothing_is_refused():
    with pytest.raises(ArgumentError, match="give one at least"):
        Reel([])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # ipywidgets' own
def test_a_slider_shows_the_frame_it_points_at():
    slider = Reel(GREY).slider()
    screen, controls = slider.widget().children
    controls.children[1].value = 7
    assert (np.asarray(Image.open(BytesIO(screen.value))) == GREY[7]).all()
    assert "application/vnd.jupyter.widget-view+json" in slider._repr_mimebundle_()


def test_a_slider_without_widgets_is_a_filmstrip(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    bundle = Reel(GREY).slider()._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "image/jpeg"}
    opened(base64.b64decode(bundle["image/jpeg"]))


@pytest.mark.parametrize("output_type", ["pil", "np", "pt"])
def test_an_output_gives_the_same_frames_whatever_its_type(tiny, output_type):
    plan = Plan(steps=2)
    output = tiny.sample(seeds=[0, 1], plan=plan, output_type=output_type)
    expected = tiny.sample(seeds=[0, 1], plan=plan).images
    for frame, image in zip(output.frames, expected, strict=True):
        assert (frame == np.asarray(image)).all()


def test_an_output_shows_rows_of_eight():
    image = opened(ImagePipelineOutput(torch.zeros(9, 3, 16, 16))._repr_jpeg_())
    assert image.size == (8 * 131 - 6, 2 * 131 - 6)


def test_a_morph_shows_itself_and_draws_only_a_few_frames(tiny, pictures, monkeypatch):
    morph = tiny.morph([*pictures, "seed:3"], plan=Plan(steps=2), frames=600, hold=2)
    assert repr(morph) == "Morph(disc.png → ring.png → seed:3, 600 frames)"
    opened(morph._repr_jpeg_())  # 600 frames would take a minute


def test_a_film_of_a_morph_is_its_frames(tiny, pictures):
    morph = tiny.morph(pictures, plan=Plan(steps=2), frames=4)
    reel = morph.film(fps=10)
    assert all((a == b).all() for a, b in zip(reel.frames, morph.draw(), strict=True))
    assert repr(reel) == "Reel(4 frames at 10 a second)"
    assert reel.recipe["keyframes"][0]["source"] == "disc.png"


def test_an_inversion_shows_pictures_decodings_and_differences(tiny, pictures):
    inversion = tiny.invert(pictures, plan=Plan(steps=2, solver="ddim"))
    assert repr(inversion).count("\n") == 1
    assert (inversion.latents == inversion.state.x).all()
    assert opened(inversion._repr_jpeg_()).height > 3 * 128


def test_the_numerics_do_not_import_what_only_displays():
    code = (
        "import sys; from ddim_interp import DDIMPipeline\n"
        "assert not {'matplotlib', 'ipywidgets', 'IPython'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
