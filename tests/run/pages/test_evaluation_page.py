"""Page of the evaluation of a translation, from its files."""

import json

from seewhy.run.pages.evaluation_page import write_evaluation_page

TABLE = """direction,method,status,ssim,frechet_matched,lesion_patients
a2b,real,floor,,4.9284,
a2b,counterpart,truth,,,4
a2b,identity,ok,0.7221,40.7,4
a2b,nyul,not installed (x),,,
a2b,model,ok,0.6994,39.07,4
"""


def test_numbers_have_names_and_floors_are_grey(tmp_path):
    (tmp_path / "table.csv").write_text(TABLE)
    (tmp_path / "evaluation.json").write_text(json.dumps({"name": "x</script>", "phantom": True}))
    text = write_evaluation_page(tmp_path).read_text()
    assert "x</script>" not in text
    assert "Phantom data" in text
    for words in (
        "a → b: this model",
        "a → b: not translated",
        "a → b: truth: the other scanner",
        "0.699",
        "Fréchet ↓",
    ):
        assert words in text
    assert "4.000" not in text
    assert "Not measured: Nyúl: not installed (x)." in text
    assert text.count('<tr class="quiet">') == 5
