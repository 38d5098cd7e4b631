"""Who made a model artefact: people, their keys, and their signatures."""
