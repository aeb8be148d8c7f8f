"""Models on disk: our own format, and the published checkpoints translated into it and back."""
