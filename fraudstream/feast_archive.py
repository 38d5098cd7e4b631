"""The offline store by its former class path, which a `feature_store.yaml` may still name."""

from fraudstream.feast_plugin.offline_store import ArchiveOfflineStore, ArchiveOfflineStoreConfig

__all__ = ["ArchiveOfflineStore", "ArchiveOfflineStoreConfig"]
