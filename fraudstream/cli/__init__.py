"""The command `fraudstream`: one way to every program of the project."""
