"""Set-up of the whole test suite: one thread a worker, no pictures on a screen, the same examples on every run."""

import os

import matplotlib
import torch
from hypothesis import settings

matplotlib.use("Agg")
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

settings.register_profile("house", deadline=None, derandomize=True, max_examples=20, database=None)
settings.load_profile("house")
