"""Every test of a target runs with poisoned results."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def poisoned_results() -> Iterator[None]:
    """Fresh tensors hold NaN, so that an element no kernel writes is found."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    yield
    torch.use_deterministic_algorithms(False)
