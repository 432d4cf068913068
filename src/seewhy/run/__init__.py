"""From a configuration to objects, a Trainer call and a run folder."""
