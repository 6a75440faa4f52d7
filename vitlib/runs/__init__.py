"""Recorded experiments: of each a log as JSON and the script that makes it; record.py reads."""
