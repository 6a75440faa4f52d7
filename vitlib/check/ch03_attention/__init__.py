"""Chapter 3, attention: one file an exercise."""
