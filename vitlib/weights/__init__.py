"""Trained weights that come with vitlib, each with its training log, and the script that makes them."""
