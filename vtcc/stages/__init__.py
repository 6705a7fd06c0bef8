"""The stages of dvc.yaml: one module each, with `run`, and `resuming`, which they share."""
