"""What all tests share: property tests have no deadline, since the machine may be busy."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch sums in one order, and no threads wait for each other over small tensors."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
