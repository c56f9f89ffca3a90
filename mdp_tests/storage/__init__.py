"""What one store has beyond the promises of its port. Not here: those promises (``contracts``)."""
