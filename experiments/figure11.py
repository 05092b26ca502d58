"""The command of the artefact of this name; see `experiments.registry`."""

from experiments import registry

if __name__ == "__main__":
    registry.main(__spec__.name)
