"""Find the annotation tool of the active stack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from visionops.errors import StackError

if TYPE_CHECKING:
    from visionops.review.annotation.tool import AnnotationTool
    from visionops.review.label_studio.tool import LabelStudio

__all__ = ["LABEL_STUDIO", "active_tool", "label_studio"]

LABEL_STUDIO = "label_studio"
"""Name of ZenML's own flavor."""


def active_tool() -> AnnotationTool:
    """Return the annotation tool of the active stack.

    Raises:
        StackError: The stack has no annotator, or one without an annotation tool.
        Invalid: The settings of Label Studio are invalid.
    """
    from zenml.client import Client
    from zenml.enums import StackComponentType

    from stacks.zenml_server import require_zenml_server

    require_zenml_server()
    # `active_stack` would load all components, and ZenML's Label Studio needs an SDK that we do not install.
    stack = Client().active_stack_model
    found = stack.components.get(StackComponentType.ANNOTATOR)
    if not found:
        raise StackError(
            f"stack {stack.name!r}: missing annotator; run visionops stack apply local, then zenml stack update "
            f"{stack.name} -an local"
        )
    component = found[0]
    if component.flavor_name == LABEL_STUDIO:
        return label_studio(component.name, component.configuration)
    return _own_tool(component)


def label_studio(name: str, configuration: Mapping[str, Any], secret: Mapping[str, Any] | None = None) -> LabelStudio:
    """Return Label Studio with the settings of a component of ZenML's flavor.

    Args:
        name: Name of the component, for messages.
        configuration: Its settings.
        secret: Values of ``authentication_secret``; read from ZenML when absent.

    Raises:
        StackError: The secret that the settings name is missing from ZenML.
        Invalid: The address is invalid, or the token is missing.
    """
    from zenml.integrations.label_studio.flavors import LabelStudioAnnotatorConfig

    from visionops.review.label_studio.tool import LabelStudio

    try:
        config = LabelStudioAnnotatorConfig(**configuration)
        token = config.api_key
    except KeyError as error:
        raise StackError(f"annotator {name!r}: {error.args[0]}") from error
    if not token and config.authentication_secret:
        token = str(
            (secret if secret is not None else _secret(name, config.authentication_secret)).get("api_key") or ""
        )
    url = config.instance_url.rstrip("/")
    return LabelStudio(f"{url}:{config.port}" if config.port else url, token or "")


def _secret(annotator: str, name: str) -> Mapping[str, Any]:
    from zenml.client import Client

    try:
        found = Client().get_secret(name, allow_partial_name_match=False, allow_partial_id_match=False)
    except KeyError as error:
        raise StackError(
            f"annotator {annotator!r}: ZenML's secret {name} is missing; zenml secret create {name} --api_key=…"
        ) from error
    except NotImplementedError as error:
        raise StackError(f"annotator {annotator!r}: this ZenML has no secret store; set its api_key") from error
    return dict(found.secret_values)


def _own_tool(component: Any) -> AnnotationTool:
    from zenml.stack import StackComponent

    name, flavor = component.name, component.flavor_name
    try:
        loaded: Any = StackComponent.from_model(component)
    except ImportError as error:
        said = (str(error).splitlines() or [""])[0]
        raise StackError(
            f"annotator {name!r}: flavor {flavor} cannot be loaded ({said}); install its package"
        ) from error
    if not hasattr(loaded, "annotation_tool"):
        raise StackError(
            f"annotator {name!r}: flavor {flavor} has no annotation_tool(); use visionops_review or label_studio"
        )
    tool: AnnotationTool = loaded.annotation_tool()
    return tool
