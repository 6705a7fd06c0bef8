"""The HTML pages that vtcc writes: one look, each in one file that needs no network."""
