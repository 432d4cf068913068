from pathlib import Path

from seewhy.figures.glossary import GLOSSARY
from seewhy.figures.labels import MEASURES, label_of
from seewhy.figures.results import explain_measures, results_blocks


def test_every_measure_is_explained():
    assert set(GLOSSARY) == set(MEASURES)
    for entry in GLOSSARY.values():
        assert all(part.endswith(".") for part in entry)


def test_the_page_says_the_same():
    page = (Path(__file__).parents[2] / "docs" / "measures.md").read_text()
    for name, entry in GLOSSARY.items():
        assert f"| {MEASURES[name]} (`{name}`) | {entry.meaning} | {entry.chance} | {entry.blind} |" in page


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
