"""Tests of GPU kernels run them in the simulator."""

import pytest

from diagc.simulator.build import find_compiler


@pytest.fixture(autouse=True)
def compiler() -> None:
    """The run time of the simulator is C++."""
    if find_compiler() is None:
        pytest.skip("NOT TESTED: GPU kernels in the simulator, for there is no C++ compiler")
