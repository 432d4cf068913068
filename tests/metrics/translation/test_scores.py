import math
import os
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from seewhy.batch import MODALITIES
from seewhy.data.domains.stacks import make_overlapping_stacks
from seewhy.metrics.translation.similarity import TranslationScores, centre_slices, similarity, subject_name

S, M, H, W = 3, 4, 16, 20


def subject(name, domain="a", *, patient=None, seed=0, paired=True, cycle=True):
    generator = torch.Generator().manual_seed(seed)
    planes = torch.rand(S + 2, M, H, W, generator=generator) * 2 - 1
    batch = {
        "image": make_overlapping_stacks(planes, slices=3),
        "body": torch.ones(S, H, W, dtype=torch.bool),
        "domain": [domain] * S,
        "id": [f"{domain}_{name}_{number:03d}" for number in range(5, 5 + S)],
        "patient": [patient or name] * S,
        "index": list(range(5, 5 + S)),
    }
    batch["body"][0] = False
    if paired:
        batch["counterpart"] = torch.rand(S, M, H, W, generator=generator) * 2 - 1
    prediction = {"translated": torch.rand(S, M, H, W, generator=generator) * 2 - 1}
    if cycle:
        prediction["reconstructed"] = torch.rand(S, M, H, W, generator=generator) * 2 - 1
    return prediction, batch, planes[1:-1]


def test_centre_slices_are_the_middle_ones():
    _, batch, own = subject("p")
    assert torch.equal(centre_slices(batch["image"]), own)


def test_subject_name_keeps_underscores():
    assert subject_name("a_Brats18_2013_21_1_077", "a") == "Brats18_2013_21_1"


def test_each_comparison_is_with_what_it_may_be_compared_with():
    prediction, batch, own = subject("p1", "b")
    scores = TranslationScores()
    scores.update(prediction, batch)
    other, body = batch["counterpart"], batch["body"]
    pairs = {
        "cycle": (prediction["reconstructed"], own),
        "translation": (prediction["translated"], other),
        "identity": (own, other),
        "change": (prediction["translated"], own),
    }
    found = scores.compute()
    rows = scores.rows()
    assert len(rows) == 4 * 2 * M * 4  # the slice without tissue has none
    for name, pair in pairs.items():
        slices, volume = similarity(*pair, body)
        assert found[f"b2a/{name}/ssim"] == pytest.approx(float(volume["ssim"].mean()), rel=1e-6)
        (row,) = [
            row for row in rows
            if (row["comparison"], row["metric"], row["modality"], row["slice"]) == (name, "psnr", "t2", 6)
        ]  # fmt: skip
        assert row["value"] == pytest.approx(float(slices["psnr"][1, MODALITIES.index("t2")]))
        assert (row["subject"], row["patient"], row["domain"], row["direction"]) == ("p1", "p1", "b", "b2a")
        assert row["id"] == "b_p1_006"


def test_nothing_is_compared_with_what_is_not_there():
    scores = TranslationScores()
    scores.update(*subject("p", paired=False, cycle=False)[:2])
    assert {row["comparison"] for row in scores.rows()} == {"change"}
    assert set(scores.compute()) == {f"a2b/change/{name}" for name in ("ssim", "psnr", "mae", "mse")}


def test_mean_is_over_patients_not_over_their_scans():
    scores = TranslationScores()
    for name, patient, seed in (("p1", "p1", 1), ("p2-first", "p2", 2), ("p2-second", "p2", 3)):
        scores.update(*subject(name, patient=patient, seed=seed)[:2])
    by_subject = {row["subject"]: row["mae"] for row in scores.patient_rows() if row["comparison"] == "cycle"}
    expected = (by_subject["p1"] + (by_subject["p2-first"] + by_subject["p2-second"]) / 2) / 2
    assert scores.compute()["a2b/cycle/mae"] == pytest.approx(expected)


def test_patient_rows_have_every_modality():
    scores = TranslationScores()
    scores.update(*subject("p")[:2])
    row = scores.patient_rows()[0]
    assert row["ssim"] == pytest.approx(sum(row[f"ssim_{name}"] for name in MODALITIES) / M)


def test_a_subject_that_comes_twice_counts_once_and_reset_forgets():
    scores = TranslationScores()
    for _ in range(2):
        scores.update(*subject("p")[:2])
    assert len(scores.patient_rows()) == 4
    scores.reset()
    assert scores.rows() == []
    assert scores.compute() == {}


def test_same_name_in_both_domains_is_two_subjects():
    scores = TranslationScores()
    scores.update(*subject("p", "a")[:2])
    scores.update(*subject("p", "b")[:2])
    assert {row["direction"] for row in scores.patient_rows()} == {"a2b", "b2a"}


def test_equal_images_have_an_infinite_psnr():
    _, batch, own = subject("p", paired=False)
    scores = TranslationScores()
    scores.update({"translated": own, "reconstructed": own}, batch)
    assert math.isinf(scores.compute()["a2b/cycle/psnr"])


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _gathered(rank, port, folder):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    scores = TranslationScores()
    for name in (("p1", "p2"), ("p3", "p1"))[rank]:
        scores.update(*subject(name, seed=int(name[1]))[:2])
    torch.save((scores.rows(), scores.compute()), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_ranks_tell_the_same_as_one_process(tmp_path):
    mp.start_processes(_gathered, args=(free_port(), tmp_path), nprocs=2, start_method="fork")
    alone = TranslationScores()
    for name in ("p1", "p2", "p3"):
        alone.update(*subject(name, seed=int(name[1]))[:2])
    for rank in range(2):
        rows, computed = torch.load(tmp_path / f"{rank}.pt")
        assert rows == alone.rows()
        assert computed == alone.compute()
