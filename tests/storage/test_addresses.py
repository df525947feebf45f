import pytest

from raytransfer.errors import UserError
from raytransfer.storage.addresses import checked, is_address, without_options


@pytest.mark.parametrize("address", ["s3://key:p@ss@bucket/x", "s3://key:secret@bucket/x"])
def test_no_part_of_a_password_is_repeated(address):
    with pytest.raises(UserError, match=r"^out=s3://\.\.\.@bucket/x holds a password"):
        checked("out", address)


def test_what_only_looks_like_an_address_is_refused():
    with pytest.raises(UserError, match=r"^out=s3://\[x is no address: "):
        checked("out", "s3://[x")


@pytest.mark.parametrize(
    ("address", "given"),
    [
        ("s3://b/x", "s3://b/x"),
        ("gs://b/x", "gs://b/x?retry_limit_seconds=2"),
        ("gcs://b/x?scheme=http", "gcs://b/x?scheme=http&retry_limit_seconds=2"),
        ("gs://b/x?retry_limit_seconds=5", "gs://b/x?retry_limit_seconds=5"),
    ],
)
def test_google_s_storage_is_asked_for_a_short_time_unless_an_address_says_otherwise(address, given):
    assert checked("out", address) == given


def test_a_question_mark_begins_options_in_an_address_alone():
    assert without_options("S3://b/x?region=y") == "S3://b/x"
    assert without_options("./a folder?") == "./a folder?"
    assert is_address("S3://b")
    assert not is_address("./s3://b")
