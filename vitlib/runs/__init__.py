"""Recorded experiments of the book: a log as JSON beside the script that makes it, and its reader."""
