"""Prediction over more files than one machine should read."""
