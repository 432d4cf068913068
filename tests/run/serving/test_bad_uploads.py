"""Every bad upload is answered in one line: what was found, what was expected, what to do."""

import gzip
import random

import bad_files as bad
import numpy as np
import pytest
from PIL import Image

from seewhy.batch import MODALITIES

GREY, SCAN = bad.png(), np.random.default_rng(0).random((24, 24, 16)).astype(np.float32)
LONG = np.random.default_rng(0).random((24, 40, 16)).astype(np.float32)
SLICE = np.random.default_rng(0).random((48, 48)).astype(np.float32)


def one(filename, content, field="mnv", /, **texts):
    """A request with one file."""
    return {"files": [(field, (filename, content))], "data": texts}


def image(filename, content, /, **texts):
    return one(filename, content, "image", **texts)


def several(field, /, *files, **texts):
    return {"files": [(field, file) for file in files], "data": texts}


def subject(domain="a", **scans):
    given = {name: ("scan.nii.gz", gzip.compress(bad.nifti(SCAN))) for name in MODALITIES} | scans
    return {"files": list({k: v for k, v in given.items() if v}.items()), "data": {"domain": domain} if domain else {}}


def raw(body, kind="multipart/form-data; boundary=x"):
    return {"content": body, "headers": {"content-type": kind}}


FORM = "multipart/form-data"
LAS = np.diag([-1.0, 1, 1, 1])
NAN = np.full((32, 32), np.nan, np.float32)
AMD = {
    "nothing": ({"files": [("name", (None, "P1"))]}, 422, ["no file", "mnv"]),
    "json": ({"json": {"mnv": "a"}}, 415, [FORM, "curl"]),
    "no_body": ({}, 415, [FORM]),
    "no_boundary": (raw(b"", FORM), 400, ["boundary", FORM]),
    "broken_form": (raw(b"--y\r\nnonsense"), 400, ["form"]),
    "unfinished_form": (raw(b'--x\r\nContent-Disposition: form-data; name="mnv"; filename="a.png"\r\n\r\nabc'),
        422, ["no file"]),
    "nameless_part": (raw(b"--x\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--x--\r\n"), 400, ["name"]),
    "unknown_field": (one("a.png", GREY, "mnw"), 422, ["'mnw'", "nearest: 'mnv'"]),
    "text_for_a_file": ({"files": [("mnv", (None, "a.png"))]}, 422, ["'mnv' is text", "expected a file"]),
    "file_for_a_text": (several("method", ("a.png", GREY)), 422, ["'method' is a file"]),
    "two_files": (several("mnv", ("a.png", GREY), ("b.png", GREY)), 422, ["several files", "'mnv'"]),
    "many_files": (several("mnv", *[(f"{i}.png", GREY) for i in range(9)]), 400, ["Too many files"]),
    "many_fields": ({"files": [(f"x{i}", (None, "1")) for i in range(30)]}, 400, ["Too many fields"]),
    "long_field": (one("a.png", GREY, name="x" * 5000), 400, ["maximum size"]),
    "long_name": (one("a.png", GREY, name="x" * 300), 422, ["'name'", "200"]),
    "control_characters": (one("a.png", GREY, name="a\x07b"), 422, ["'name'", "plain text"]),
    "a_name_twice": ({"files": [("mnv", ("a.png", GREY)), ("name", (None, "a")), ("name", (None, "b"))]},
        422, ["twice"]),
    "domain": (one("a.png", GREY, domain="a"), 422, ["no domain"]),
    "method": (one("a.png", GREY, method="grad_cm"), 422, ["'grad_cm'", "nearest: 'grad_cam'"]),
    "method_that_is_not_offered": (one("a.png", GREY, method="occlusion"), 422, ["not offered"]),
    "target": (one("a.png", GREY, target="erly"), 422, ["'erly'", "nearest: 'early'"]),
    "no_ending": (one("image", GREY), 415, ["unknown ending", ".png"]),
    "program": (one("a.exe", b"MZ"), 415, ["'a.exe'", ".png"]),
    "pickle": (one("a.pkl", bad.pickled()), 415, ["'a.pkl'"]),
    "checkpoint": (one("best.ckpt", b"PK"), 415, ["'best.ckpt'"]),
    "svg": (one("a.svg", b"<svg onload='x'/>"), 415, ["'a.svg'"]),
    "npz": (one("a.npz", bad.npz(a=np.zeros(3))), 415, ["'a.npz'", ".npy"]),
    "dicom": (one("a.dcm", b"\0" * 128 + b"DICM"), 415, ["'a.dcm'"]),
    "detached_header": (one("a.nhdr", bad.nrrd("a.raw")), 415, ["'a.nhdr'", ".nrrd"]),
    "path": (one("../../../etc/passwd", b"root"), 415, ["'passwd'"]),
    "empty": (one("a.png", b""), 422, ["a.png", "0 bytes"]),
    "noise": (one("a.png", bytes(range(256)) * 4), 422, ["a.png", "PNG"]),
    "html": (one("a.png", b"<!doctype html><script>alert(1)</script>"), 422, ["a.png"]),
    "cut_off": (one("a.png", GREY[: len(GREY) // 2]), 422, ["a.png"]),
    "wrong_checksum": (one("a.png", GREY[:60] + bytes([GREY[60] ^ 255]) + GREY[61:]), 422, ["a.png"]),
    "announced_only": (one("a.png", bad.huge_png(60_000, filled=False)), 422, ["a.png"]),
    "bomb": (one("a.png", bad.huge_png(6000, filled=True)), 413, ["a.png", "137.3 MiB", "64.0 MiB", "--max-unpacked"]),
    "gif": (one("a.png", bad.save(Image.new("L", (8, 8)), "GIF")), 422, ["a.png", "GIF"]),
    "colours": (one("a.png", bad.png((32, 32, 3))), 422, ["a.png", "colour", "grey"]),
    "transparent": (one("a.png", bad.png((32, 32, 4))), 422, ["a.png", "transparent"]),
    "pages": (one("a.tif", bad.tiff(3)), 422, ["a.tif", "3 pages"]),
    "no_tiff": (one("a.tif", b"II*\0 nonsense"), 422, ["a.tif", "no page"]),
    "pickled_array": (one("a.npy", bad.npy(np.array([bad.Bomb()], object), allow_pickle=True)),
        422, ["a.npy", "pickle"]),
    "pickle_as_array": (one("a.npy", bad.pickled()), 422, ["a.npy", "pickle"]),
    "archive_as_array": (one("a.npy", bad.npz(a=np.zeros(3))), 422, ["a.npy", ".npz"]),
    "text_array": (one("a.npy", bad.npy(np.array(["a", "b"]))), 422, ["a.npy"]),
    "announced_array": (one("a.npy", bad.announcing_npy((1 << 20, 1 << 20))), 422, ["a.npy", "4.0 TiB"]),
    "no_values": (one("a.npy", bad.npy(np.zeros((0, 8)))), 422, ["a.npy", "no values"]),
    "five_axes": (one("a.npy", bad.npy(np.zeros((2, 2, 2, 2, 2), np.uint8))), 422, ["a.npy", "(2, 2, 2, 2, 2)"]),
    "not_a_number": (one("a.npy", bad.npy(NAN)), 422, ["a.npy", "no finite value"]),
    "out_of_range": (one("a.npy", bad.npy(np.full((32, 32), 300.0, np.float32))), 422, ["a.npy", "300"]),
    "no_scan": (one("a.nii", b"\0" * 400), 422, ["a.nii"]),
    "no_gzip": (one("a.nii.gz", b"nonsense"), 422, ["a.nii.gz"]),
    "other_file": (one("a.mha", bad.metaimage("../../../etc/passwd")), 422, ["a.mha"]),
    "other_file_of_nrrd": (one("a.nrrd", bad.nrrd("/etc/passwd")), 422, ["a.nrrd"]),
}  # fmt: skip
MRI = {
    "two_files": (several("image", ("a.nii", b"1"), ("b.nii", b"2")), 422, ["several files"]),
    "planar": (image("a.nii.gz", gzip.compress(bad.nifti(SCAN[:, :, 0], LAS))), 422, ["a.nii.gz", "(24, 24, 1)"]),
    "channels": (image("a.nii.gz", gzip.compress(bad.nifti(np.stack([SCAN] * 3, 3), LAS))), 422, ["a.nii.gz", "3"]),
    "orientation": (image("a.nii", bad.nifti(SCAN, np.diag([-1, -1, 1, 1]))), 422, ["a.nii", "orient"]),
    "few_slices": (image("a.nii", bad.nifti(SCAN, LAS)), 422, ["a.nii"]),
    "array": (image("a.npy", bad.npy(SCAN)), 422, ["a.npy", "orientation"]),
    "huge": (image("a.nii", bad.announcing_nifti((30_000, 30_000, 30_000))), 422, ["a.nii", "TiB"]),
    "huge_and_packed": (image("a.nii.gz", gzip.compress(bad.announcing_nifti((3000, 3000, 30)))), 422, ["a.nii.gz"]),
    "cut_off": (image("a.nii.gz", gzip.compress(bad.nifti(LONG, LAS))[:-900]), 422, ["a.nii.gz"]),
    "damaged_gzip": (image("a.nii.gz", gzip.compress(bad.nifti(LONG, LAS))[:2000] + b"\0" * 900), 422, ["a.nii.gz"]),
    "affine": (image("a.nii", bad.lost_nifti(SCAN)), 422, ["a.nii"]),
}  # fmt: skip
SLICES = {
    "scan": (image("a.nii.gz", gzip.compress(bad.nifti(SCAN))), 422, ["slices", "dataset.json"]),
    "shapes": (several("image", ("BRATS_1_0_0.npy", bad.npy(SLICE)), ("BRATS_1_1_0.npy", bad.npy(SLICE[:9]))),
        422, ["BRATS_1_1_0.npy", "9x48"]),
    "same_name": (several("image", ("a.npy", bad.npy(SLICE)), ("A.npy", bad.npy(SLICE))), 422, ["'A.npy'", "rename"]),
    "four_axes": (image("a.npy", bad.npy(np.zeros((2, 2, 8, 8), np.uint8))), 422, ["a.npy", "(2, 2, 8, 8)"]),
    "values": (several("image", ("a.npy", bad.npy(SLICE)), ("b.npy", bad.npy(SLICE * np.nan))), 422, ["b.npy"]),
    "order_of_bytes": (image("a.npy", bad.npy(SLICE.byteswap())), 422, ["a.npy", "1e+30"]),
    "picture": (image("a.png", GREY), 415, ["'a.png'", ".npy"]),
    "pickled": (several("image", ("a.npy", bad.npy(SLICE)), ("b.npy", bad.pickled())), 422, ["b.npy", "pickle"]),
    "large_stack": (image("a.npy", bad.npy(np.zeros((300, 300, 200), np.uint8))), 413, ["68.7 MiB", "64.0 MiB"]),
}  # fmt: skip
SUBJECTS = {
    "no_domain": (subject(domain=None), 422, ["domain=a or domain=b"]),
    "domain": (subject(domain="c"), 422, ["'c'"]),
    "missing": (subject(t2=None), 422, ["t2"]),
    "shapes": (subject(t2=("t2.nii", bad.nifti(SCAN[:9]))), 422, ["t2"]),
    "black": (subject(**{k: ("s.nii", bad.nifti(SCAN * 0)) for k in MODALITIES}), 422, ["s.nii"]),
    "target": ({**subject(), "data": {"domain": "a", "target": "t3"}}, 422, ["'t3'", "t1"]),
}  # fmt: skip
STORE = {"zarr.json": bad.zarr_metadata(), "c/0/0/0": bytes(64)}
PICKLE = bad.zarr_metadata(codecs=("bytes", "numcodecs.pickle"))
VOLUMES = {
    "no_zip": (image("a.zarr.zip", b"nonsense"), 422, ["a.zarr.zip", "not a zip file"]),
    "crowded": (image("a.zarr.zip", bad.crowded_zip()), 422, ["a.zarr.zip", "too many files"]),
    "encrypted": (image("a.zarr.zip", bad.encrypted_zip()), 422, ["a.zarr.zip", "encrypted"]),
    "link": (image("a.zarr.zip", bad.linked_zip()), 422, ["a.zarr.zip", "plain file"]),
    "outside": (image("a.zarr.zip", bad.zipped({"../x": b"1", **STORE})), 422, ["a.zarr.zip", "'../x'"]),
    "absolute": (image("a.zarr.zip", bad.zipped({"/tmp/x": b"1", **STORE})), 422, ["a.zarr.zip", "plain file"]),
    "twice": (image("a.zarr.zip", bad.zipped({"a/b": b"1", "a": b"1"})), 422, ["a.zarr.zip"]),
    "no_store": (image("a.zarr.zip", bad.zipped({"readme.txt": b"hello"})), 422, ["a.zarr.zip", "zarr.json"]),
    "bomb": (image("a.zarr.zip", bad.zipped({"c/0/0/1": bytes(80_000_000), **STORE})),
        422, ["64.0 MiB", "--max-unpacked"]),
    "huge": (image("a.zarr.zip", bad.zipped({"zarr.json": bad.zarr_metadata((9999, 9999, 9999))})),
        413, ["TiB", "a.zarr"]),
    "endless": (image("a.zarr.zip", bad.zipped({"zarr.json": bad.zarr_metadata((1 << 30, 1, 1))})), 422, ["a.zarr"]),
    "codec": (image("a.zarr.zip", bad.zipped({"zarr.json": PICKLE, "c/0/0/0": bad.pickled()})),
        422, ["pickle"]),
    "metadata": (image("a.zarr.zip", bad.zipped({"zarr.json": b"{"})), 422, ["a.zarr"]),
    "cut_off": (image("a.zarr.zip", bad.zipped({**STORE, "c/0/0/0": b"\0" * 3})), 422, ["a.zarr"]),
    "values_behind": (image("a.nii.gz", gzip.compress(bad.nifti(LONG) + bytes(50_000_000))),
        422, ["a.nii.gz", "unpacks to more"]),
    "planar": (image("a.npy", bad.npy(np.zeros((8, 8)))), 422, ["a.npy", "(8, 8)"]),
    "channels": (image("a.npy", bad.npy(np.zeros((3, 20, 20, 20), np.uint8))), 422, ["a.npy", "3 channels"]),
    "target": (image("a.npy", bad.npy(np.zeros((8, 8, 8), np.uint8)), target="nodul"), 422, ["nearest: 'nodule'"]),
}  # fmt: skip
SYSTEMS = {"amd": AMD, "mri": MRI, "brats": SLICES, "cyclegan": SUBJECTS, "volume": VOLUMES}
CASES = [
    pytest.param(system, *case, id=f"{system}-{name}")
    for system, cases in SYSTEMS.items()
    for name, case in cases.items()
]


def test_there_are_many():
    assert len(CASES) >= 50


@pytest.mark.parametrize(("system", "request_", "status", "facts"), CASES)
def test_a_bad_upload_is_answered_in_words(serve, tmp_path, monkeypatch, system, request_, status, facts):
    monkeypatch.chdir(tmp_path)
    client = serve(system, max_unpacked="64MiB")
    answer = client.post("/predict", **request_)
    text = answer.json()["error"]
    assert answer.status_code == status, text
    for fact in facts:
        assert fact in text
    assert "\n" not in text
    assert len(text) <= 1001
    for hidden in ("/tmp", str(tmp_path.parent.parent), "Traceback", 'File "', "seewhy."):
        assert hidden not in text
    assert not (tmp_path / "exploded").exists()
    assert client.worker.places_taken == 0


CUBE = (np.random.default_rng(0).random((20, 20, 20)) * 200).astype(np.uint8)
GOOD = {
    "amd": ("mnv", {"a.png": GREY, "a.npy": bad.npy(np.eye(32, dtype=np.uint8)), "a.tif": bad.tiff(1)}),
    "mri": ("image", {"a.nii": bad.nifti(LONG, LAS), "a.nii.gz": gzip.compress(bad.nifti(LONG, LAS))}),
    "brats": ("image", {"a.npy": bad.npy(np.stack([SLICE, SLICE]))}),
    "volume": ("image", {"a.npy": bad.npy(CUBE), "a.zarr.zip": bad.zipped({"zarr.json": bad.zarr_metadata()})}),
}


@pytest.mark.parametrize("system", list(GOOD))
def test_files_with_changed_bytes_are_answered(serve, system):
    field, files = GOOD[system]
    client, rng = serve(system, max_unpacked="64MiB"), random.Random(7)
    seen = set()
    for name, content in files.items():
        for _ in range(25):
            given = {field: (name, bad.mutate(content, rng))}
            answer = client.post("/predict", files=given, data={"method": "none"})
            seen.add(answer.status_code)
            assert answer.status_code in (200, 413, 422), answer.text
            if answer.status_code != 200:
                text = answer.json()["error"]
                assert "\n" not in text
                assert "/tmp" not in text
    assert 422 in seen
