"""What every test may lean on: a fixed thread count."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread_count() -> None:
    """Sums depend on how threads split them; two threads is what the smallest machine has."""
    torch.set_num_threads(2)
