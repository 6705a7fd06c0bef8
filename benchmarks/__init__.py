"""Measurements that anyone can run again; every figure in docs/results.md comes from here."""
