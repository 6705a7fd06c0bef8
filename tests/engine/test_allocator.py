import pytest

from vtcc.engine import allocator


@pytest.fixture
def calls(monkeypatch):
    made = []

    class Library:
        def mallopt(self, option, size):
            made.append((option, size))
            return 1

    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _name: Library())
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("glibc", "2.36"))
    for name in list(allocator.os.environ):
        if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES":
            monkeypatch.delenv(name)
    return made


def test_glibc_is_told_once_each(calls):
    allocator.keep_freed_memory()
    assert calls == [(-3, 32 << 20), (-1, 1 << 30), (-2, 64 << 20)]


@pytest.mark.parametrize(
    ("name", "value"),
    [("MALLOC_ARENA_MAX", "1"), ("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=1")],
)
def test_what_the_user_chose_stands(calls, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    allocator.keep_freed_memory()
    assert calls == []


def test_another_c_library_is_left_alone(calls, monkeypatch):
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    allocator.keep_freed_memory()
    assert calls == []
