"""The pipeline's own verbs."""

import shutil
from threading import Event, Thread

import numpy as np
import pytest
import torch

from ddim_interp import DDIMPipeline, Plan, draw
from ddim_interp.errors import ArgumentError, InputMissingError, ModelError, ScheduleError

PLAN = Plan(steps=4)


def test_seeds_and_their_latents_are_the_same_pictures(tiny):
    by_seed = tiny.sample(seeds=[3, 4], plan=PLAN, output_type="pt").images
    by_latent = tiny.sample(draw([3, 4], (3, 16, 16)), plan=PLAN, output_type="pt").images
    assert torch.equal(by_seed, by_latent)


def test_inverted_latents_decode_to_the_pictures(tiny):
    pictures = tiny.sample(seeds=[5, 6], plan=PLAN, output_type="pt").images * 2 - 1
    inversion = tiny.invert(pictures, plan=Plan(steps=10))
    back = tiny.sample(inversion, output_type="pt").images * 2 - 1
    assert (back - pictures).square().mean() < 1e-5
    assert len(inversion.certificates) == 2


@pytest.mark.parametrize("solver", ["ddim", "trapezoid", "heun-exact", "dpmpp-exact"])
def test_each_picture_pays_for_its_own_evaluations(tiny, pictures, solver):
    plan = Plan(steps=8, solver=solver)
    # One picture is hard and one as good as solved: they stop at different times.
    batch = torch.stack([tiny.invert(pictures[0], plan=plan).images[0], torch.zeros(3, 16, 16)])
    both = tiny.invert(batch, plan=plan)
    alone = [tiny.invert(each[None], plan=plan).certificates[0].nfe for each in batch]
    assert [each.nfe for each in both.certificates] == alone
    assert sum(alone) <= both.nfe, "decoding is paid for as well, and not in the certificate"


def test_invert_takes_files_pil_images_and_lists(tiny, pictures):
    from PIL import Image

    one = tiny.invert(pictures[0], plan=PLAN).state.x
    same = tiny.invert(Image.open(pictures[0]), plan=PLAN).state.x
    both = tiny.invert([pictures[0], Image.open(pictures[1])], plan=PLAN).state.x
    assert torch.equal(one, same) and both.shape == (2, 3, 16, 16)


@pytest.mark.parametrize("shape", [(1, 1, 16, 16), (1, 6, 16, 16)])
def test_latents_of_other_channels_are_refused_in_a_line(tiny, shape):
    with pytest.raises(ArgumentError, match="have not the 3 channels of"):
        tiny.sample(torch.zeros(shape), plan=PLAN)


def test_pictures_of_whole_numbers_are_not_taken_for_floats(tiny):
    with pytest.raises(ArgumentError, match=r"uint8 are not in .* give x / 127\.5 − 1"):
        tiny.invert(torch.full((1, 3, 16, 16), 127, dtype=torch.uint8), plan=PLAN)


def test_threads_that_share_a_pipeline_do_not_mix_their_steps(tiny):
    """The one draws in twelve steps; in the middle of them, the other draws in three."""

    def draw_in(steps):
        generator = torch.Generator().manual_seed(1)
        return tiny(generator=generator, num_inference_steps=steps, output_type="np").images

    expected, inner = draw_in(12), draw_in(3)
    began, others = Event(), []

    def interrupt(*_):
        if not began.is_set():
            began.set()
            other = Thread(target=lambda: others.append(draw_in(3)))
            other.start()
            other.join()

    hook = tiny.unet.register_forward_hook(interrupt)
    try:
        seen = draw_in(12)
    finally:
        hook.remove()
    assert np.array_equal(seen, expected) and np.array_equal(others[0], inner)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_precision_network_keeps_a_float32_state(tiny_folder, dtype):
    half = DDIMPipeline.from_pretrained(tiny_folder, device="cpu", dtype=dtype)
    half.set_progress_bar_config(disable=True)
    images = half.sample(seeds=[1], plan=PLAN, output_type="pt").images
    assert half.dtype == dtype and images.dtype == torch.float32
    exact = DDIMPipeline.from_pretrained(tiny_folder, device="cpu", dtype="fp32")
    exact.set_progress_bar_config(disable=True)
    difference = images - exact.sample(seeds=[1], plan=PLAN, output_type="pt").images
    assert difference.square().mean() < 1e-2


def test_what_overflows_in_half_precision_is_asked_again_in_float32(tiny_folder):
    half = DDIMPipeline.from_pretrained(tiny_folder, device="cpu", dtype=torch.float16)
    half.set_progress_bar_config(disable=True)
    with torch.no_grad():
        half.unet.conv_in.weight.mul_(4e4)  # the norms behind it bring float32 back to size
    film = half.morph(["seed:1", "seed:2"], plan=PLAN, frames=3)
    assert np.isfinite(np.array(list(film.draw()), float)).all()
    assert 3 <= film.model.retries <= 3 * PLAN.steps


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_half_precision_cannot_answer_is_asked_again_in_float32(tiny_folder, tiny, dtype):
    half = DDIMPipeline.from_pretrained(tiny_folder, device="cpu", dtype=dtype)
    half.unet.register_forward_pre_hook(
        lambda unet, x: x if unet.dtype == torch.float32 else (x[0] * torch.nan, *x[1:])
    )
    model, exact = half.model, tiny.model.denoiser
    z, t = draw([1, 2], model.shape), model.schedule.level(500)
    torch.testing.assert_close(model.denoiser(z, t).x_0, exact(z, t).x_0, atol=0.05, rtol=0)
    assert model.retries == 2


def test_auto_precision_inverts_in_float32(tiny_folder):
    pipe = DDIMPipeline.from_pretrained(tiny_folder, device="cpu")
    assert pipe.dtype == torch.float32
    draft = pipe.model.draft
    assert draft is None or draft.dtype == torch.bfloat16


def test_the_progress_bar_goes_to_stderr_and_can_be_switched_off(tiny_folder, capsys):
    pipe = DDIMPipeline.from_pretrained(tiny_folder, device="cpu", dtype="fp32")
    pipe(num_inference_steps=2)
    out, err = capsys.readouterr()
    assert out == "" and "sampling" in err
    pipe.set_progress_bar_config(disable=True)
    pipe(num_inference_steps=2)
    assert capsys.readouterr() == ("", "")


def test_numpy_pictures_lie_in_zero_to_one(tiny):
    images = tiny(num_inference_steps=2, output_type="np").images
    assert images.shape == (1, 16, 16, 3) and images.dtype == np.float32
    assert 0 <= images.min() and images.max() <= 1


@pytest.mark.parametrize(
    ("call", "error", "remedy"),
    [
        (lambda pipe: pipe(output_type="jpeg"), ArgumentError, "pil, np or pt"),
        (lambda pipe: pipe(num_inference_steps=0), ScheduleError, "1 to 1000"),
        (lambda pipe: pipe(batch_size=0), ArgumentError, "1 or more"),
        (lambda pipe: pipe(batch_size=2, generator=[torch.Generator()]), ArgumentError, "each"),
        (lambda pipe: pipe.sample(), ArgumentError, "give one"),
        (lambda pipe: pipe.invert(torch.zeros(1, 3, 8, 8)), ArgumentError, "3×16×16"),
        (lambda pipe: pipe.invert("missing.png"), InputMissingError, "missing.png"),
    ],
)
def test_wrong_calls_are_refused_with_a_remedy(tiny, call, error, remedy):
    with pytest.raises(error, match=remedy):
        call(tiny)


def test_frames_are_drawn_by_the_weights_that_the_network_has_now(tiny_folder):
    pipe = DDIMPipeline.from_pretrained(tiny_folder, device="cpu", dtype="fp32")
    pipe._draft_dtype = torch.bfloat16
    x = torch.randn(1, *pipe.model.shape).bfloat16()

    def loudness():
        with torch.inference_mode():
            return float(pipe.model.draft.network(x, 999).sample.abs().max())

    assert loudness() > 0 and pipe._twin(torch.bfloat16) is pipe._twin(torch.bfloat16)
    pipe.unet.load_state_dict({name: 0 * each for name, each in pipe.unet.state_dict().items()})
    assert loudness() == 0
    for weight in pipe.unet.parameters():
        weight.data.fill_(0.01)  # which torch does not count
    assert loudness() > 0


def test_parts_can_be_given_and_taken_as_in_diffusers(tiny_folder, tmp_path):
    from ddim_interp import DDIMScheduler

    trailing = DDIMScheduler(timestep_spacing="trailing")
    pipe = DDIMPipeline.from_pretrained(tiny_folder, device="cpu", scheduler=trailing)
    assert pipe.scheduler.config.timestep_spacing == "trailing" and pipe.weights_sha256
    assert set(pipe.components) == {"unet", "scheduler"}
    again = DDIMPipeline(**pipe.components).to(device="cpu", dtype=torch.float32)
    other = DDIMPipeline.from_pretrained(tiny_folder, device="cpu", unet=again.unet)
    assert other.unet is again.unet and other.name == "custom" and not other.weights_sha256
    other.save_pretrained(save_directory=tmp_path / "own", safe_serialization=True)
    with pytest.raises(ArgumentError, match="asks for a pickle"):
        other.save_pretrained(tmp_path / "own", safe_serialization=False)


def test_weights_that_are_given_are_not_looked_for(tiny, tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"none")
    pipe = DDIMPipeline.from_pretrained(folder, device="cpu", unet=tiny.unet)
    assert pipe.unet is tiny.unet and pipe.scheduler.config == tiny.scheduler.config
    with pytest.raises(ModelError):
        DDIMPipeline.from_pretrained(folder, device="cpu")


def test_tensors_that_hold_no_pictures_are_refused(tiny):
    channels, height, width = tiny.model.shape
    nothing = torch.zeros(0, channels, height, width)
    for images, held in (
        (nothing, "no pictures"),
        (nothing.new_full((1, 3, 16, 16), torch.nan), "NaN"),
    ):
        with pytest.raises(ArgumentError, match=f"holds {held}"):
            tiny.invert(images)
    for latents in (nothing, torch.zeros(channels, height, width)):
        with pytest.raises(ArgumentError, match=r"no batch; give \(N, C, H, W\)"):
            tiny.sample(latents)
