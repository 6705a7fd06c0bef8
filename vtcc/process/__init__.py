"""Processes of this machine: locks and marks of living ones, starting, stopping, ending groups."""
