"""Chapter 2, class token and positions: one file per exercise."""
