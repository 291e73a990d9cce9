"""Tests of the native library are skipped where none can be built."""

import pytest
import torch

from diffsim.native.library import BuildError, library


@pytest.fixture(autouse=True, scope="session")
def native_library():
    try:
        library(torch.float64)
    except BuildError as error:
        pytest.skip(f"No native library here: {error}")
