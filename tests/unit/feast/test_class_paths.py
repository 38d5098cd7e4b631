"""Class paths by which a `feature_store.yaml` names this project's parts of Feast."""

from __future__ import annotations

from pathlib import Path

import pytest
from feast.infra.offline_stores.offline_utils import get_offline_store_from_config
from feast.infra.online_stores.helpers import get_online_store_from_config
from feast.infra.provider import get_provider
from feast.repo_config import RepoConfig, load_repo_config

from fraudstream.feast_plugin.offline_store import ArchiveOfflineStore
from fraudstream.feast_plugin.online_store import PackedOnlineStore
from fraudstream.feast_plugin.provider import StreamProvider
from harness.processes import PROJECT_FOLDER

_PAGE = (PROJECT_FOLDER / "feature_repo" / "feature_store.yaml").read_text()
_FORMER = {
    "feast_plugin.online_store": "feast_store",
    "feast_plugin.offline_store": "feast_archive",
    "feast_plugin.provider": "feast_provider",
}


def _config(folder: Path, text: str) -> RepoConfig:
    (folder / "feature_store.yaml").write_text(text)
    return load_repo_config(folder, folder / "feature_store.yaml")


@pytest.mark.parametrize("is_former", [False, True])
def test_paths_of_this_and_of_former_releases_name_the_same(
    tmp_path: Path, is_former: bool
) -> None:
    """Who upgrades need not touch the file."""
    text = _PAGE
    for now, before in _FORMER.items():
        assert now in text
        text = text.replace(now, before) if is_former else text

    config = _config(tmp_path, text)

    assert isinstance(get_online_store_from_config(config.online_store), PackedOnlineStore)
    assert isinstance(get_offline_store_from_config(config.offline_store), ArchiveOfflineStore)
    assert isinstance(get_provider(config), StreamProvider)
