"""What all tests of the backend share."""

import pytest


@pytest.fixture(autouse=True)
def _graphs_of_its_own(fresh_dynamo: None) -> None:
    """Each begins without graphs."""
