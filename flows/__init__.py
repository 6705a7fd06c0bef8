"""Prefect: the flow `vtcc`, its deployments and the worktree runner; no tensors here."""

from vtcc import quiet

# Prefect reads its settings when it is imported, so the switches must be set before that.
quiet.apply()
