"""The same generator draws the same pictures as diffusers' DDIMPipeline; folders change hands."""

import warnings

import numpy as np
import pytest
import torch

diffusers = pytest.importorskip("diffusers")

from ddim_interp import DDIMPipeline, DDIMScheduler, UNet2DModel  # noqa: E402
from ddim_interp.hub import EMBEDDED  # noqa: E402


def theirs_from(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = diffusers.DDIMPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def ours_from(folder):
    pipe = DDIMPipeline.from_pretrained(folder, device="cpu", torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def both(tiny_folder):
    return ours_from(tiny_folder), theirs_from(tiny_folder)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 10, 30])
def test_one_generator_draws_the_same_pictures(both, eta, steps):
    ours, theirs = (
        pipe(
            batch_size=2,
            generator=torch.Generator().manual_seed(3),
            eta=eta,
            num_inference_steps=steps,
            output_type="np",
        ).images
        for pipe in both
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("use_clipped", [None, False, True])
def test_a_list_of_generators_draws_the_same_pictures(both, use_clipped):
    ours, theirs = (
        pipe(
            batch_size=3,
            generator=[torch.Generator().manual_seed(seed) for seed in (1, 2, 3)],
            eta=0.3,
            num_inference_steps=7,
            use_clipped_model_output=use_clipped,
            output_type="np",
        ).images
        for pipe in both
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_pil_np_and_tuple_outputs_are_the_same(both):
    def drawn(pipe, **options):
        generator = torch.Generator().manual_seed(0)
        return pipe(generator=generator, num_inference_steps=3, **options)

    ours, theirs = both
    a, b = (np.asarray(drawn(pipe).images[0]) for pipe in both)
    assert np.abs(a.astype(int) - b).max() <= 1
    (tensor,) = drawn(ours, output_type="pt", return_dict=False)
    array = drawn(theirs, output_type="np", return_dict=False)[0]
    np.testing.assert_allclose(tensor.permute(0, 2, 3, 1), array, atol=1e-5)


def test_the_embedded_model_draws_the_same_picture_in_both():
    ours, theirs = (
        pipe(generator=torch.Generator().manual_seed(0), num_inference_steps=4, output_type="np")
        for pipe in (ours_from(None), theirs_from(EMBEDDED))
    )
    np.testing.assert_allclose(ours.images, theirs.images, atol=1e-5)


def test_folders_change_hands(both, tmp_path):
    ours, theirs = both
    ours.save_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")

    def drawn(pipe):
        generator = torch.Generator().manual_seed(5)
        return pipe(generator=generator, num_inference_steps=5, output_type="np").images

    expected = drawn(ours)
    np.testing.assert_allclose(drawn(theirs_from(tmp_path / "ours")), expected, atol=1e-5)
    np.testing.assert_allclose(drawn(ours_from(tmp_path / "theirs")), expected, atol=1e-5)


def test_a_network_and_a_scheduler_of_diffusers_can_be_put_into_our_pipeline(both, tmp_path):
    _, theirs = both
    theirs.unet.save_pretrained(tmp_path / "unet")
    theirs.scheduler.save_pretrained(tmp_path / "scheduler")
    network = UNet2DModel.from_pretrained(tmp_path / "unet")
    scheduler = DDIMScheduler.from_pretrained(tmp_path, subfolder="scheduler")
    x, t = torch.randn(1, 3, 16, 16), torch.tensor(400)
    with torch.no_grad():
        torch.testing.assert_close(network(x, t).sample, theirs.unet(x, t).sample)
        torch.testing.assert_close(network(x, t, return_dict=False)[0], network(x, t).sample)
    network.save_pretrained(tmp_path / "again")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = diffusers.UNet2DModel.from_pretrained(tmp_path / "again")
    assert again.state_dict().keys() == network.state_dict().keys()
    assert len(DDIMPipeline(network, scheduler).scheduler) == 1000
