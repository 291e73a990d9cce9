"""The command `studies`: runs studies, shows what a storage holds, and hands it on."""

from studies.cli.main import app

__all__ = ["app"]
