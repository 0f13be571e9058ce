"""What all tests of the backend share."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    """No test meets graphs of another, nor leaves any."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
