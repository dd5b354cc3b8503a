"""What all tests share: one thread, no network but loopback, real data only where it is present."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Before anything imports torch or a hub client.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

# Timing on a shared machine says nothing, and a run must be the same every time.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches for the network fails at once, by name."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else address
        if self.family != socket.AF_UNIX and host not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"tests use no network but loopback; refused {address!r}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def data_dir() -> Path:
    """The folder of real data sets; the test is skipped where it is absent."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("STILLROOM_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set STILLROOM_DATA")
    return folder
