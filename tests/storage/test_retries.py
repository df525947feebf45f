import errno
from types import SimpleNamespace

import pytest

from raytransfer.errors import StorageError
from raytransfer.storage import retries
from raytransfer.storage.retries import passes, patiently, whole


def raising(error):
    def do():
        raise error

    return do


def test_waits_double_to_a_limit_are_drawn_from_their_upper_half_and_end_when_they_should(monkeypatch):
    slept, drawn = [], []
    clock = SimpleNamespace(monotonic=lambda: sum(slept), sleep=slept.append)
    monkeypatch.setattr(retries, "time", clock)
    monkeypatch.setattr(retries, "random", SimpleNamespace(uniform=lambda *ends: drawn.append(ends) or ends[1]))
    with pytest.raises(StorageError, match="x has not answered for 100 s: SLOW_DOWN"):
        patiently(raising(OSError("SLOW_DOWN")), "x", 100.0)
    assert slept[:8] == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20])
    assert sum(slept) == pytest.approx(100)
    assert all(low == high / 2 for low, high in drawn)
    assert max(high for _, high in drawn) == 20


def test_a_file_that_is_not_there_is_told_from_a_bucket_that_is_not():
    with pytest.raises(FileNotFoundError, match="x/y"):
        patiently(raising(FileNotFoundError("x/y")), "x", 100.0)
    with pytest.raises(StorageError, match="x: Bucket 'b' does not exist"):
        patiently(raising(FileNotFoundError("Bucket 'b' does not exist")), "x", 100.0)


@pytest.mark.parametrize(("good", "reads"), [(1, 1), (4, 4), (9, 6)])
def test_what_does_not_look_whole_is_read_six_times_and_given_as_it_was_last(good, reads):
    found = []
    assert whole(lambda: found.append(0) or len(found), lambda number: number >= good) == len(found) == reads


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (OSError(errno.ETIMEDOUT, "timed out"), True),
        (OSError(errno.ENOSPC, "full"), False),
        (OSError(errno.EFAULT, "bad address"), False),
        (OSError("AWS Error SLOW_DOWN"), True),
        (OSError("ExpiredToken: the provided token has expired"), False),
        (OSError("Cannot open 'x': Is a directory"), False),
        (OSError("The bucket b was not found"), False),
        (OSError("no credentials"), False),
    ],
)
def test_what_passes_is_tried_again(error, again):
    assert passes(error) is again
