"""Pages made from run folders alone: of a run, a prediction, an evaluation, and of several runs compared."""
