"""Trained weights that come with vitlib, with their logs and the script that trains them."""
