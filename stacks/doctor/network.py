"""Check that the network policies of a namespace let the pods of steps reach the API server."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stacks.deployers.api import Namespace
from stacks.deployers.manifests.identity import Manifest
from stacks.deployers.manifests.settings import KubernetesDeployerConfig
from stacks.doctor.findings import CheckResult, ok, warning

__all__ = ["check_way_to_api_server"]

_HOME = "default"
"""Namespace in which a cluster keeps the addresses of its own API server."""
_SLICES = {"kubernetes.io/service-name": "kubernetes"}
_STEP = {"project_id": "p", "run_id": "r"}
"""Labels that ZenML gives to the pods of steps; policies select them by their keys."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Api:
    """Addresses and ports on which the API server itself listens; its Service has another port."""

    addresses: tuple[str, ...]
    ports: tuple[int, ...]


def check_way_to_api_server(config: KubernetesDeployerConfig, timeout: tuple[float, float]) -> Iterator[CheckResult]:
    """Compare the API server's own ports with the ports that network policies open for steps.

    A policy applies to the address behind the Service `kubernetes`, so its rule must list the port of that address.

    Raises:
        DeploymentError: The cluster does not answer.
    """
    namespace = Namespace(config, timeout=timeout, retries=0)
    home = Namespace(config.model_copy(update={"namespace": _HOME}), timeout=timeout, retries=0)
    for place, kind in ((namespace, "NetworkPolicy"), (home, "EndpointSlice")):
        if not place.may("list", kind):
            yield ok(f"access from steps to the API server: not checked, lacks the right to list {kind}")
            return
    policies = [policy for policy in namespace.select("NetworkPolicy", {}) if _confines(policy["spec"])]
    api = _api_server(home.select("EndpointSlice", _SLICES))
    if not policies or not api.ports:
        return
    rules = [rule for policy in policies for rule in policy["spec"].get("egress") or ()]
    if closed := [port for port in api.ports if not any(_lets(rule, api.addresses, port) for rule in rules)]:
        said, all_ports = _list(closed), ",".join(map(str, api.ports))
        yield warning(
            f"network policies of namespace {namespace.name}: block steps from port {said}, on which the API server "
            f"listens ({_list(api.addresses)})",
            f"helm upgrade … --reuse-values --set 'networkPolicies.apiServerPorts={{{all_ports}}}'",
        )
    else:
        yield ok(f"policies let steps reach the API server at port {_list(api.ports)}")


def _api_server(slices: Sequence[Manifest]) -> _Api:
    addresses = {address for one in slices for end in one.get("endpoints") or () for address in end["addresses"]}
    ports = {int(port["port"]) for one in slices for port in one.get("ports") or () if port.get("port")}
    return _Api(tuple(sorted(addresses)), tuple(sorted(ports)))


def _confines(spec: Mapping[str, Any]) -> bool:
    """Return whether a policy restricts outgoing connections of steps' pods."""
    is_egress = "Egress" in (spec.get("policyTypes") or ()) or "egress" in spec
    return is_egress and _selects(spec.get("podSelector") or {})


def _selects(selector: Mapping[str, Any]) -> bool:
    if not (selector.get("matchLabels") or {}).items() <= _STEP.items():
        return False
    for expression in selector.get("matchExpressions") or ():
        has = expression["key"] in _STEP
        values = expression.get("values") or ()
        fits = {
            "Exists": has,
            "DoesNotExist": not has,
            "In": has and _STEP.get(expression["key"]) in values,
            "NotIn": not has or _STEP[expression["key"]] not in values,
        }
        if not fits.get(expression["operator"], False):
            return False
    return True


def _lets(rule: Mapping[str, Any], addresses: Sequence[str], port: int) -> bool:
    """Return whether a rule allows connections to all these addresses, which are not pods, at a port."""
    peers = rule.get("to") or ()
    blocks = [peer["ipBlock"] for peer in peers if peer.get("ipBlock")]
    if peers and not all(any(_holds(block, address) for block in blocks) for address in addresses):
        return False
    ports = rule.get("ports") or ()
    return not ports or any(_is_port(one, port) for one in ports)


def _holds(block: Mapping[str, Any], address: str) -> bool:
    found = ipaddress.ip_address(address)
    if found not in ipaddress.ip_network(block["cidr"], strict=False):
        return False
    return not any(found in ipaddress.ip_network(part, strict=False) for part in block.get("except") or ())


def _is_port(entry: Mapping[str, Any], port: int) -> bool:
    first = entry.get("port")
    if entry.get("protocol", "TCP") != "TCP" or isinstance(first, str):
        return False
    return first is None or first <= port <= (entry.get("endPort") or first)


def _list(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))
