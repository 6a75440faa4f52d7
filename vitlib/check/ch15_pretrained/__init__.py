"""Chapter 15: a real pretrained ViT."""
