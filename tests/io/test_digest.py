import hashlib

from seewhy.io.atomic import file_sha256


def test_digest_is_that_of_the_content_and_not_of_the_name(tmp_path):
    content = bytes(range(256)) * 10_000
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(content)
        assert file_sha256(tmp_path / name) == hashlib.sha256(content).hexdigest()
    (tmp_path / "b").write_bytes(content[:-1])
    assert file_sha256(str(tmp_path / "b")) != file_sha256(tmp_path / "a")
