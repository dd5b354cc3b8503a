import sys

import pytest

from stillroom.models.memory import keep_memory


def test_an_allocator_that_the_user_set_up_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    assert keep_memory.__wrapped__() is False


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone has these settings")
def test_glibc_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    assert keep_memory.__wrapped__() is True
