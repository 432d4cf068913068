"""The explanations of a run: which samples, which targets, what is kept of them and how it is drawn."""
