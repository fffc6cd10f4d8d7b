"""The offline demo: a synthetic reading-comprehension set and the small pretrained BERT it is trained on."""
