"""What feature maps leave to the next layer, and when they had better not."""

from types import SimpleNamespace

import torch
from torch import nn

from ddim_interp.unet.remembered import is_remembering, memory, recall, remember, remembering

ON_A_GPU = SimpleNamespace(is_cuda=True)


def test_what_is_remembered_is_forgotten_at_the_end():
    x, y = torch.zeros(2), torch.zeros(2)
    with memory():
        remember(x, "nought")
        assert recall(x) == "nought" and recall(y) is None, "an equal tensor is another"
        with memory():
            assert recall(x) is None
        assert recall(x) == "nought"
    assert recall(x) is None
    remember(x, "nothing happens")
    assert recall(x) is None


def test_what_nobody_can_ask_for_any_more_is_let_go():
    class Large:
        alive = 0

        def __init__(self):
            Large.alive += 1

        def __del__(self):
            Large.alive -= 1

    with memory():
        x = torch.zeros(2)
        remember(x, Large())
        assert Large.alive == 1
        del x
        assert Large.alive == 0


@torch.inference_mode()
def test_only_a_gpu_learns_and_only_where_nobody_looks_in():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with remembering(network, torch.zeros(2)):
        assert not is_remembering()
    with remembering(network, ON_A_GPU):
        assert is_remembering()
    for register in (
        network[1].register_forward_hook,
        network[1].register_forward_pre_hook,
        nn.modules.module.register_module_forward_hook,
    ):
        handle = register(lambda *_: None)
        with remembering(network, ON_A_GPU):
            assert not is_remembering()
        handle.remove()
    with torch.inference_mode(False), remembering(network, ON_A_GPU):
        assert not is_remembering(), "where gradients are wanted, torch's own kernels run"
