"""Models: training, engines and artefacts."""
