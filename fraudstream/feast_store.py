"""The online store by its former class path, which a `feature_store.yaml` may still name."""

from fraudstream.feast_plugin.online_store import PackedOnlineStore, PackedOnlineStoreConfig

__all__ = ["PackedOnlineStore", "PackedOnlineStoreConfig"]
