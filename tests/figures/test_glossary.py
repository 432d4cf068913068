import io
import re
from pathlib import Path

from rich.console import Console

from seewhy.figures.glossary import GLOSSARY
from seewhy.figures.labels import MEASURES, label_of
from seewhy.figures.results import explain_measures, results_blocks, results_table
from seewhy.wording import LESION, TargetWords


def test_every_measure_is_explained():
    assert set(GLOSSARY) == set(MEASURES)
    for entry in GLOSSARY.values():
        assert all(part.endswith(".") for part in entry)


def test_the_page_says_the_same():
    page = (Path(__file__).parents[2] / "docs" / "measures.md").read_text()
    for name, entry in GLOSSARY.items():
        row = f"| {MEASURES[name]} (`{name}`) | {entry.meaning} | {entry.chance} | {entry.blind} |"
        assert LESION.fill(row) in page


def test_headings_of_a_report_link_to_their_explanation():
    results = {"test/refined/dice": 0.8, "test/refined/lesion_dice": 0.5, "test/auroc": 0.9}
    blocks = results_blocks(results | {"test/floor_area/auroc": 0.7})
    page = "".join(block.html() for block in [*blocks, *explain_measures(blocks)])
    for name in ("dice", "lesion_dice", "auroc"):
        assert f'<a href="#measure-{name}">{label_of(name)}</a>' in page
        assert page.count(f'id="measure-{name}"') == 1
    assert 'id="measure-kappa"' not in page
    assert explain_measures(results_blocks({"test/loss": 0.1})) == []
    assert "floor: slice area" in page


def test_no_text_says_lesion_where_the_data_set_says_atrium():
    words = TargetWords(target="atrium", absent="atrium-free")
    scores = {f"test/refined/{name}": 0.5 for name in MEASURES} | {f"test/floor_otsu/{name}": 0.4 for name in MEASURES}
    results = {**scores, "test/auroc": 0.9, "test/patients": 9.0, "test/patients_with_lesion": 8.0}
    blocks = results_blocks(results, words=words)
    texts = [block.html() for block in [*blocks, *explain_measures(blocks, words)]]
    for kind in ("segmentation", "false positives", "classification"):
        console = Console(file=io.StringIO(), width=200)
        console.print(results_table(results, kind=kind, words=words))
        texts.append(console.file.getvalue())
    text = re.sub(r"measure-\w+", "", " ".join(texts).lower())  # the anchors of a page are keys
    assert "lesion" not in text
    assert "healthy" not in text
    assert "with an atrium" in text
    assert "atrium-wise dice" in text
    assert "8 with atrium" in text
    assert "{" not in text
