"""Chapter 10, distillation: one file per exercise."""
