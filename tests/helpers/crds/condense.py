"""Extract field names and types of SeldonDeployment, InferenceService and ScaledObject from published clients.

    uv pip install --no-deps --target CLIENTS seldon-deploy-sdk==2.4.0 kserve==0.21.0
    uv pip install --target CLIENTS cloudcoil-models-keda==2.16.1.0
    PYTHONPATH=CLIENTS python -m tests.helpers.crds.condense CLIENTS

A custom resource's own schema has megabytes, nearly all of it a copy of Kubernetes' pod. The classes of these clients
are generated from the same types. The JSON files beside this one have the fields and types of the classes between the
resource and its pod; Kubernetes' own types are plain objects, which `kubernetes_validate` checks. KEDA's models are
generated from its custom resource definitions, and have their own JSON schema.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["condense"]

_HERE = Path(__file__).parent
_SELDON = ("SeldonDeployment", "SeldonDeploymentSpec", "PredictorSpec", "PredictiveUnit", "Endpoint", "Parameter")
_KSERVE = ("V1beta1InferenceService", "V1beta1InferenceServiceSpec", "V1beta1PredictorSpec")
_EXTENSION = "V1beta1ComponentExtensionSpec"
_SCALING = (
    *("V1beta1AutoScalingSpec", "V1beta1MetricsSpec", "V1beta1ResourceMetricSource", "V1beta1ExternalMetricSource"),
    *("V1beta1ExternalMetrics", "V1beta1MetricTarget", "V1beta1ExtMetricAuthentication", "V1beta1AuthenticationRef"),
)
# Required fields and allowed values, which Seldon's client does not define. From
# operator/apis/machinelearning.seldon.io/v1 of seldon-core and pkg/apis/serving/v1beta1 of kserve.
_REQUIRED = {
    "SeldonDeploymentSpec": ["predictors"],
    "PredictorSpec": ["graph", "name"],
    "PredictiveUnit": ["name"],
    "Parameter": ["name", "type", "value"],
    "SeldonHpaSpec": ["maxReplicas"],
    "V1beta1InferenceServiceSpec": ["predictor"],
}
_VALUES = {
    ("PredictiveUnit", "type"): ["UNKNOWN_TYPE", "ROUTER", "COMBINER", "MODEL", "TRANSFORMER", "OUTPUT_TRANSFORMER"],
    ("Endpoint", "type"): ["REST", "GRPC"],
    ("Parameter", "type"): ["INT", "FLOAT", "DOUBLE", "STRING", "BOOL"],
    ("V1beta1PredictorSpec", "scaleMetric"): ["cpu", "memory", "concurrency", "rps"],
    ("V1beta1MetricsSpec", "type"): ["Resource", "External", "PodMetric"],
    ("V1beta1MetricTarget", "type"): ["Utilization", "Value", "AverageValue"],
    ("V1beta1ExternalMetrics", "backend"): ["prometheus", "graphite"],
}
_TABLES = {"swagger_types", "openapi_types", "attribute_map"}
_PLAIN = {"str": "string", "int": "integer", "bool": "boolean", "float": "number", "V1beta1MetricQuantity": "string"}


def condense(package: Path, followed: tuple[str, ...]) -> dict[str, Any]:
    """Return a JSON schema of the first class of ``followed``, with all of them expanded.

    Args:
        package: Folder of the client.
    """
    models = {path.stem.replace("_", ""): path for path in (package / "models").glob("*.py")}

    def fields(name: str) -> dict[str, str]:
        """Return the types by JSON name."""
        found: dict[str, Any] = {}
        for node in ast.walk(ast.parse(models[name.lower()].read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in _TABLES:
                found[ast.unparse(node.targets[0])] = ast.literal_eval(node.value)
        types = found.get("swagger_types") or found.get("openapi_types") or {}
        return {found["attribute_map"][own]: kind for own, kind in types.items()}

    def schema(kind: str) -> dict[str, Any]:
        if kind in _PLAIN:
            return {"type": _PLAIN[kind]}
        if listed := re.fullmatch(r"list\[(.+)\]", kind):
            return {"type": "array", "items": schema(listed[1])}
        if mapped := re.fullmatch(r"dict\(str, (.+)\)", kind):
            return {"type": "object", "additionalProperties": schema(mapped[1])}
        if kind in followed:
            return {"$ref": f"#/definitions/{kind}"}
        is_text = kind.lower() in models and not fields(kind)  # an enumeration
        return {"type": "string"} if is_text else {"type": "object", "$comment": kind}

    definitions = {}
    for name in followed:
        properties = {field: schema(kind) for field, kind in sorted(fields(name).items())}
        for field, described in properties.items():
            if values := _VALUES.get((name, field)):
                described["enum"] = values
        definitions[name] = {"type": "object", "properties": properties, "additionalProperties": False}
        if required := _REQUIRED.get(name):
            definitions[name]["required"] = required
    return {"$ref": f"#/definitions/{followed[0]}", "definitions": definitions}


def keda() -> dict[str, Any]:
    """Return a JSON schema of ScaledObject, strict and without its status."""
    from cloudcoil.models.keda.v1alpha1 import ScaledObject

    def strict(value: Any) -> Any:
        if isinstance(value, list):
            return [strict(inner) for inner in value]
        if not isinstance(value, dict):
            return value
        kept = {key: strict(inner) for key, inner in value.items() if not _is_said(key, inner)}
        return kept | ({"additionalProperties": False} if "properties" in kept else {})

    made = ScaledObject.model_json_schema(by_alias=True)
    spec = {"properties": {"spec": made["properties"]["spec"]}}
    definitions, wanted = {}, set(re.findall(r"#/\$defs/(\w+)", json.dumps(spec)))
    while wanted - set(definitions):
        for name in sorted(wanted - set(definitions)):
            definitions[name] = strict(made["$defs"][name])
        wanted |= set(re.findall(r"#/\$defs/(\w+)", json.dumps(definitions)))
    head = {key: {"type": "string"} for key in ("apiVersion", "kind")} | {"metadata": {"type": "object"}}
    properties = head | {"spec": {"$ref": "#/definitions/ScaledObjectSpec"}}
    schema = {"type": "object", "properties": properties, "additionalProperties": False, "required": list(properties)}
    text = json.dumps(schema | {"definitions": definitions})
    return dict(json.loads(text.replace("#/$defs/", "#/definitions/")))


def _is_said(key: str, value: Any) -> bool:
    """Return whether a schema key is a description or a default; a property may have the same name."""
    return key in {"title", "description", "default"} and not isinstance(value, dict)


def _write(kind: str, distribution: str, version: str, schema: dict[str, Any]) -> None:
    source = {"$comment": f"tests/helpers/crds/condense.py wrote this from {distribution} {version}"}
    (_HERE / f"{kind}.json").write_text(json.dumps(source | schema, indent=1) + "\n", encoding="utf-8")


def main(clients: Path) -> None:
    """Write the files again."""
    pods = ("SeldonPodSpec", "SeldonHpaSpec")
    for kind, package, distribution, followed in (
        ("SeldonDeployment", "seldon_deploy_sdk", "seldon-deploy-sdk", (*_SELDON, *pods)),
        ("InferenceService", "kserve", "kserve", (*_KSERVE, _EXTENSION, *_SCALING)),
    ):
        (version,) = [p.name.removesuffix(".dist-info").split("-")[1] for p in clients.glob(f"{package}-*.dist-info")]
        _write(kind, distribution, version, condense(clients / package, followed))
    _write("ScaledObject", "cloudcoil-models-keda", metadata.version("cloudcoil-models-keda"), keda())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
