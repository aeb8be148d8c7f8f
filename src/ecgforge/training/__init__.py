"""Training: presets, one step, and the one loop."""
