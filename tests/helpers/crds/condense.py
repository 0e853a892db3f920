"""Field names and types of SeldonDeployment and InferenceService, out of the clients that their projects publish.

    uv pip install --no-deps --target CLIENTS seldon-deploy-sdk==2.4.0 kserve==0.21.0
    python -m tests.helpers.crds.condense CLIENTS

A custom resource's own schema has megabytes, nearly all of it a copy of Kubernetes' pod. The classes of these clients
are generated from the same types; of those on the way from the resource to its pod, the JSON files beside this one have
each field with its type. What is Kubernetes' own is an object here: `kubernetes_validate` knows the rest.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

__all__ = ["condense"]

_HERE = Path(__file__).parent
_SELDON = ("SeldonDeployment", "SeldonDeploymentSpec", "PredictorSpec", "PredictiveUnit", "Endpoint", "Parameter")
_KSERVE = ("V1beta1InferenceService", "V1beta1InferenceServiceSpec", "V1beta1PredictorSpec")
_EXTENSION = "V1beta1ComponentExtensionSpec"
# Seldon's client does not say which fields must be there, and neither says which values a text may have. From
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
}
_TABLES = {"swagger_types", "openapi_types", "attribute_map"}
_PLAIN = {"str": "string", "int": "integer", "bool": "boolean", "float": "number"}


def condense(package: Path, followed: tuple[str, ...]) -> dict[str, Any]:
    """A JSON schema of the first of ``followed``, in which these are spelt out.

    Args:
        package: The client's folder.
    """
    models = {path.stem.replace("_", ""): path for path in (package / "models").glob("*.py")}

    def fields(name: str) -> dict[str, str]:
        """JSON name to type."""
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


def main(clients: Path) -> None:
    """Write the files again."""
    pods = ("SeldonPodSpec", "SeldonHpaSpec")
    for kind, package, distribution, followed in (
        ("SeldonDeployment", "seldon_deploy_sdk", "seldon-deploy-sdk", (*_SELDON, *pods)),
        ("InferenceService", "kserve", "kserve", (*_KSERVE, _EXTENSION)),
    ):
        (version,) = [p.name.removesuffix(".dist-info").split("-")[1] for p in clients.glob(f"{package}-*.dist-info")]
        source = {"$comment": f"tests/helpers/crds/condense.py wrote this from {distribution} {version}"}
        text = json.dumps(source | condense(clients / package, followed), indent=1)
        (_HERE / f"{kind}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
