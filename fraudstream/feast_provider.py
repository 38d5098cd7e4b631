"""The provider by its former class path, which a `feature_store.yaml` may still name."""

from fraudstream.feast_plugin.provider import StreamProvider

__all__ = ["StreamProvider"]
