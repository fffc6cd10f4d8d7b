"""GLUE's scores as an `evaluate` metric."""
