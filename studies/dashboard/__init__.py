"""The dashboard: a small web page over a storage, live while its studies run."""

from studies.dashboard.serve import serve
from studies.dashboard.web import app

__all__ = ["app", "serve"]
