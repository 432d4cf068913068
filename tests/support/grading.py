"""Overrides of the smallest training of a classifier."""

GRADING = (
    "experiment=demo/amd",
    "phantom.cases=16",
    "phantom.size=32",
    "explain.methods=[]",
    "trainer.max_epochs=1",
    "trainer.enable_progress_bar=false",
    "trainer.enable_model_summary=false",
)
