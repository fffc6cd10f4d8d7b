"""The jobs a model can be trained for: each turns data files into features, a collator and a score."""
