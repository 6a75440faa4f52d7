"""Recorded experiments: a JSON log of each, and the script that writes it; record.py reads them."""
