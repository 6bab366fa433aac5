"""How a model is packaged, served and rolled out."""
