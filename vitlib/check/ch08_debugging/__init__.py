"""Chapter 8, debugging: what `check.training` measures, one file per exercise, and a loop."""
