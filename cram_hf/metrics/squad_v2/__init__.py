"""SQuAD v2.0 scores as an `evaluate` metric."""
