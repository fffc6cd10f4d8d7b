"""SQuAD v1.1 scores as an `evaluate` metric."""
