"""A ZenML of its own for these tests, and bundles to deploy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.helpers.bundles import encode, make_bundle, picture


@pytest.fixture(scope="package")
def zenml_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty ZenML database and VISIONOPS_HOME; what this process used before comes back afterwards."""
    home = tmp_path_factory.mktemp("zenml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZENML_CONFIG_PATH", str(home / "config"))
        patch.setenv("ZENML_ANALYTICS_OPT_IN", "false")
        patch.setenv("VISIONOPS_HOME", str(home / "visionops"))
        patch.delenv("ZENML_ACTIVE_STACK_ID", raising=False)
        from zenml.client import Client
        from zenml.config.global_config import GlobalConfiguration
        from zenml.utils import source_utils

        before = (GlobalConfiguration.get_instance(), Client.get_instance(), source_utils._CUSTOM_SOURCE_ROOT)
        GlobalConfiguration._reset_instance()
        Client._reset_instance()
        store = GlobalConfiguration().zen_store  # made on first use
        source_utils.set_custom_source_root(str(ROOT))  # a worker of xdist has no main module to find it by
        yield home / "visionops"
        store.engine.dispose()
        GlobalConfiguration._reset_instance(before[0])
        Client._reset_instance(before[1])
        source_utils.set_custom_source_root(before[2])


def empty_zenml() -> Any:
    """ZenML's client; nothing that a test has made in it is there any more."""
    from zenml.client import Client
    from zenml.enums import StackComponentType

    client = Client()
    client.activate_stack("default")
    for stack in client.list_stacks().items:
        if stack.name != "default":
            client.delete_stack(stack.id)
    for kind in StackComponentType:
        for component in client.list_stack_components(type=kind.value).items:
            if component.name != "default":
                client.delete_stack_component(component.id, kind)
    for flavor in client.list_flavors(name="startswith:visionops_").items:
        client.delete_flavor(str(flavor.id))
    for connector in client.list_service_connectors().items:
        client.delete_service_connector(connector.id)
    for secret in client.list_secrets().items:
        client.delete_secret(str(secret.id))
    return client


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two good bundles of different digests."""
    root = tmp_path_factory.mktemp("bundles")
    return make_bundle(root / "one").folder, make_bundle(root / "two", gain=1.5).folder


@pytest.fixture(scope="session")
def red_cell() -> bytes:
    """A PNG with one red cell."""
    return encode(picture([("red", 2, 1)]))
