"""What tests of the simulator share."""

import numpy as np
import pytest

from diagc.simulator.build import find_compiler


@pytest.fixture(autouse=True)
def compiler() -> None:
    """The run time is C++."""
    if find_compiler() is None:
        pytest.skip("no C++ compiler")


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Numbers that depend on the test's name only."""
    return np.random.default_rng(list(request.node.name.encode()))
