"""Serves the dashboard: the one place that opens a port."""

import ipaddress
import os

from studies.dashboard.web import LOOPBACK, app
from studies.storage.base import Storage

__all__ = ["serve"]


def serve(
    storage: str | os.PathLike[str] | Storage, host: str = "127.0.0.1", port: int = 8000, token: str | None = None
) -> None:
    """Serves the dashboard until it is interrupted.

    Args:
        storage: Holds the studies: a storage, its URL or its file.
        host: The address that it listens at; only this machine can reach the default. Whoever can reach another
            address can read all studies.
        port: The port.
        token: Lets those who know it mark pending trials as failed; without it nothing can be changed.

    Raises:
        ArgumentError: The token is too short.
        StorageError: The storage cannot be opened.
        StudyError: The extra `web` is not installed.
    """
    application = app(storage, token, hosts=LOOPBACK if _is_loopback(host) else ("*",))
    import uvicorn

    print(f"http://{f'[{host}]' if ':' in host else host}:{port}  (end it with Ctrl-C)")
    uvicorn.run(application, host=host, port=port, log_level="warning", server_header=False, ws="none")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
