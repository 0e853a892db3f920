"""The ZenML server that the client talks to, when it talks to one."""

from __future__ import annotations

import requests

from visionops.errors import StackError

__all__ = ["require_zenml_server"]

_PATIENCE_S = 10


def require_zenml_server() -> None:
    """See that the ZenML server answers, before ZenML tries for a minute and prints a trace.

    Raises:
        StackError: It does not. An embedded store (no server) always passes.
    """
    from zenml.config.global_config import GlobalConfiguration

    url = str(GlobalConfiguration().store_configuration.url)
    if not url.startswith(("http://", "https://")):
        return
    try:
        requests.get(f"{url.rstrip('/')}/health", timeout=_PATIENCE_S).raise_for_status()
    except requests.RequestException as error:
        mend = "zenml login --local" if "127.0.0.1" in url or "localhost" in url else f"zenml login {url}"
        raise StackError(
            f"ZenML server {url}: does not answer ({type(error).__name__}); start it with `{mend}`, or go back to the "
            "embedded store with `zenml logout`"
        ) from error
