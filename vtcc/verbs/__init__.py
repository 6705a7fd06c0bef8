"""The commands that are no stage of the pipeline: one module each, with `run` or `start`."""
