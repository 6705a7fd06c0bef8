"""Runs of the pipeline in a directory of their own, stage by stage; no Prefect, no tensors."""
