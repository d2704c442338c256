"""A recording answers as the network does, whatever becomes of the recorder."""

import pytest
import torch

from ddim_interp import DDIMPipeline
from ddim_interp.recorded import Recorded


class Recorder:
    """Notes what it is asked for; its recordings are the work itself."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked, self.error = [], error

    def __call__(self, work, inputs, pool):
        self.asked.append(len(inputs[0]))
        if self.error:
            raise self.error
        return work


def batch(count: int) -> torch.Tensor:
    return torch.arange(float(count))[:, None] + 1


def test_a_size_is_recorded_when_it_comes_again():
    recorder, seen = Recorder(), []
    recorded = Recorded(lambda x: (seen.append(len(x)), 2 * x)[1], recorder)
    for count in (3, 9, 10, 3, 12, 33, 3):
        assert torch.equal(recorded(batch(count)), 2 * batch(count))
    assert seen == [3, 12, 12, 3, 12, 40, 3], "more than eight are filled up"
    assert recorder.asked == [12, 3]


def test_another_precision_is_another_recording():
    recorder = Recorder()
    recorded = Recorded(lambda x: x, recorder)
    for dtype in (torch.float32, torch.bfloat16) * 2:
        assert recorded(batch(2).to(dtype)).dtype == dtype
    assert recorder.asked == [2, 2]


def test_what_cannot_be_recorded_runs_as_it_is():
    recorder = Recorder(RuntimeError("operation not permitted when stream is capturing"))
    recorded = Recorded(lambda x: x + 1, recorder)
    for _ in range(4):
        assert torch.equal(recorded(batch(2)), batch(2) + 1)
    assert recorder.asked == [2], "it is tried once"


def test_a_lack_of_memory_is_told_to_who_can_ask_for_less():
    recorded = Recorded(lambda x: x, Recorder(RuntimeError("CUDA out of memory.")))
    recorded(batch(2))
    with pytest.raises(RuntimeError, match="out of memory"):
        recorded(batch(2))


def test_recordings_are_not_made_without_end():
    recorder = Recorder()
    recorded = Recorded(lambda x: x, recorder)
    for _ in range(2):
        for count in (*range(1, 9), *range(12, 33, 4), *range(40, 90, 8)):
            recorded(batch(count))
    assert len(recorder.asked) == 16


def test_a_pipeline_records_each_network_on_a_gpu_until_it_is_moved(tiny_folder, monkeypatch):
    pipe = DDIMPipeline.from_pretrained(tiny_folder, device="cpu")
    assert pipe._run(pipe.unet) is pipe.unet
    with monkeypatch.context() as patch:
        patch.setattr(DDIMPipeline, "device", torch.device("cuda"))
        recorded = pipe._run(pipe.unet)
        assert isinstance(recorded, Recorded)
        assert recorded.network is pipe.unet
        assert pipe._run(pipe.unet) is recorded
    pipe.to(torch.float64)
    with monkeypatch.context() as patch:
        patch.setattr(DDIMPipeline, "device", torch.device("cuda"))
        assert pipe._run(pipe.unet) is not recorded
