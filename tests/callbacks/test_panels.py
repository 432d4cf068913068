import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torch.utils.data import DataLoader

from seewhy.callbacks.panels import PanelFigure, choose_rows, drop_pictures
from seewhy.data.base import BaseDataModule
from seewhy.errors import ConfigError
from seewhy.io.geometry import Display
from seewhy.reporting.sample import view_prediction
from seewhy.wording import LESION, TargetWords

ATRIUM = {"target": "atrium", "absent": "atrium-free"}
TURNED = Display(transpose=True, flip_columns=True)


def patient(number, *, hit, masks=True, lesion=(2, 12)):
    """Four slices; slices 1 and 2 show a lesion of 2 and 12 pixels, of which `hit` are predicted."""
    mask = torch.zeros(4, 8, 6, dtype=torch.uint8)
    mask[1, 1, : lesion[0]] = 1
    mask[2, 1:5, 1 : 1 + lesion[1] // 4] = 1
    refined = mask.float().flatten()
    places = refined.nonzero()[:, 0]
    refined[places[hit:]] = 0
    probability = torch.tensor([0.1, 0.2, 0.3, 0.9]) + number / 1000
    batch = {
        "image": torch.rand(4, 1, 8, 6, generator=torch.Generator().manual_seed(number)),
        "label": torch.tensor([[0.0], [1.0], [1.0], [0.0]]),
        "id": [f"{number:03d}_{index}" for index in range(4)],
        "patient": [f"{number:03d}"] * 4,
        "index": [10 * index for index in range(4)],
        "refined": refined.reshape(4, 1, 8, 6),
        "probability": probability[:, None],
    }
    return {**batch, "mask": mask} if masks else batch


class Patients(BaseDataModule):
    def __init__(self, batches, words):
        super().__init__()
        self.batches, self.own_words = batches, words

    @property
    def words(self):
        return self.own_words

    def test_dataloader(self):
        return DataLoader(self.batches, batch_size=None)

    def display_of(self, patient):
        return TURNED

    def split_record(self):
        return {}

    def fingerprint(self):
        return ""


class Answers(LightningModule):
    """Predicts what its batch says."""

    def test_step(self, batch, batch_idx):
        maps = {"cam": batch["refined"] * 0.6, "refined": batch["refined"]}
        return {**batch, "source": [""] * 4, "maps": maps}


class Watched(PanelFigure):
    """Remembers the most pictures that were kept at once, and what was drawn."""

    most = 0

    def on_test_batch_end(self, *args):
        super().on_test_batch_end(*args)
        self.most = max(self.most, sum(row["case"] is not None for row in self.rows))

    def _draw(self, trainer, rows):
        self.drawn = rows
        super()._draw(trainer, rows)


def run_test(tmp_path, batches, words=LESION, **options):
    figure = Watched(folder=str(tmp_path), **options)
    trainer = Trainer(
        accelerator="cpu", callbacks=[figure], logger=False, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.test(Answers(), Patients(batches, words), verbose=False)
    return figure


def names(figure):
    return [row["case"].name for row in figure.drawn]


def test_best_middle_and_worst_patients_by_their_dice(tmp_path):
    hits = [7, 3, 14, 0, 10, 5, 12]
    figure = run_test(tmp_path, [patient(number, hit=hit) for number, hit in enumerate(hits)], patients=3)
    dice = [2 * hit / (hit + 14) for hit in (14, 7, 0)]
    assert names(figure) == [
        f"best: 002, slice 20\npatient's Dice {dice[0]:.2f}",
        f"middle: 000, slice 20\npatient's Dice {dice[1]:.2f}",
        f"worst: 003, slice 20\npatient's Dice {dice[2]:.2f}",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["cases.png"]
    assert min(Image.open(tmp_path / "cases.png").size) > 300


def test_the_slice_has_the_largest_lesion_its_own_scores_and_is_upright(tmp_path):
    batch = patient(4, hit=8)
    [row] = run_test(tmp_path, [batch]).drawn
    case = row["case"]
    np.testing.assert_array_equal(case.image, batch["image"][2, 0].numpy().T[:, ::-1])
    np.testing.assert_array_equal(case.mask, batch["mask"][2].numpy().T[:, ::-1])
    np.testing.assert_array_equal(case.maps["refined"], batch["refined"][2, 0].numpy().T[:, ::-1])
    assert list(case.maps) == ["cam", "refined"]
    assert case.scores == {name: pytest.approx(2 * 6 / (6 + 12)) for name in case.maps}
    assert (case.label, round(case.probability, 3)) == ("lesion", 0.304)
    assert case.name == f"004, slice 20\npatient's Dice {2 * 8 / 22:.2f}"


def test_without_lesions_patients_are_ranked_by_probability(tmp_path):
    batches = [patient(number, hit=3, masks=False) for number in range(5)]
    figure = run_test(tmp_path, batches, patients=2)
    assert names(figure) == ["best: 004, slice 30", "worst: 000, slice 30"]
    assert [row["case"].mask for row in figure.drawn] == [None, None]


def healthy_patient(number, painted):
    batch = patient(number, hit=0, lesion=(0, 0))
    batch["refined"][1, 0, 0, :painted] = 1.0
    return batch


def test_healthy_patients_come_last_the_most_painted_first(tmp_path):
    batches = [
        healthy_patient(7, 1),
        healthy_patient(8, 0),
        healthy_patient(9, 5),
        patient(1, hit=4),
        patient(2, hit=9),
    ]
    figure = run_test(tmp_path, batches, patients=6)
    assert [row["patient"] for row in figure.drawn] == ["002", "001", "009", "007"]
    assert names(figure)[2:] == [
        "healthy: 009, slice 10\n5 px painted in all slices", "healthy: 007, slice 10\n1 px painted in all slices",
    ]  # fmt: skip


def test_healthy_patients_alone_are_ranked_by_what_is_painted(tmp_path):
    figure = run_test(tmp_path, [healthy_patient(7, 1), healthy_patient(8, 0), healthy_patient(9, 5)], patients=2)
    assert [row["patient"] for row in figure.drawn] == ["008", "009"]


def test_pictures_use_the_words_of_the_data_set(tmp_path):
    without = healthy_patient(7, 1) | {"label": torch.zeros(4, 1)}
    figure = run_test(tmp_path, [patient(1, hit=4), without], words=TargetWords(**ATRIUM))
    assert [row["case"].label for row in figure.drawn] == ["atrium", "no atrium"]
    assert names(figure)[1].startswith("atrium-free: 007")


def test_healthy_patients_take_at_most_a_third(tmp_path):
    batches = [healthy_patient(number, number) for number in range(6)] + [patient(n, hit=n) for n in range(10, 16)]
    figure = run_test(tmp_path, batches, patients=3)
    assert [row["patient"] for row in figure.drawn] == ["014", "010", "005"]


def test_few_pictures_are_kept_however_many_patients(tmp_path):
    rng = np.random.default_rng(0)
    hits = rng.permutation(np.arange(60) % 15)
    figure = run_test(tmp_path, [patient(number, hit=int(hit)) for number, hit in enumerate(hits)], patients=3)
    assert figure.most <= 6 * 3
    assert figure.rows == []
    scores = [row["score"] for row in figure.drawn]
    assert (scores[0], scores[2]) == (1.0, 0.0)
    every = np.sort(2 * hits / (hits + 14))
    assert every[20] <= scores[1] <= every[40]


@pytest.mark.parametrize("order", ["rising", "falling", "random"])
@pytest.mark.parametrize("count", [1, 2, 5, 6, 7])
def test_the_ends_are_exact_in_any_order_of_patients(order, count):
    scores = {"rising": np.arange(200), "falling": np.arange(200)[::-1]}.get(order)
    scores = np.random.default_rng(1).permutation(200) if scores is None else scores
    rows = []
    for score in scores:
        case = patient_case(int(score))
        rows.append({"patient": str(score), "measure": "Dice of refined", "score": float(score), "case": case})
        drop_pictures(rows, count)
    chosen = [row["score"] for row in choose_rows(rows, count)]
    best, worst = (count + 2) // 3, (count + 1) // 3
    assert chosen[:best] == [199.0 - i for i in range(best)]
    assert chosen[count - worst :] == [worst - 1.0 - i for i in range(worst)]
    assert chosen == sorted(set(chosen), reverse=True)
    assert len(chosen) == count


def patient_case(number):
    from seewhy.figures.patient_panel import PanelCase

    return PanelCase(name=str(number), image=np.zeros((2, 2)), maps={})


def test_pictures_stay_as_stored_without_a_data_module():
    batch = patient(1, hit=5)
    prediction = {**batch, "maps": {"refined": batch["refined"]}}
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    sample = view_prediction(trainer, prediction, batch, 2)
    np.testing.assert_array_equal(sample.image, batch["image"][2, 0].numpy())


def test_no_row_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"callbacks\.cases\.patients=0"):
        PanelFigure(folder=str(tmp_path), patients=0)
