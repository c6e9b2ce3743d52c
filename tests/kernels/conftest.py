"""Memory that nothing has been written to."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def poisoned():
    """What a kernel does not write stays NaN."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(1).isnan()
    assert torch.empty_like(torch.ones(1)).isnan()
    assert torch.ones(1).new_empty(1).isnan()
    yield
    torch.use_deterministic_algorithms(False)
