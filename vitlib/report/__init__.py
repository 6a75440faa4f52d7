"""A model's results on test pictures as one HTML page (page.py), with charts (charts.py)."""

from vitlib.report.page import Report, render, wilson_interval, write_report

__all__ = ["Report", "render", "wilson_interval", "write_report"]
