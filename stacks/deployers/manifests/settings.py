"""The configuration of the deployers to a cluster."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "Autoscaling",
    "IngressConfig",
    "KedaScaling",
    "KubernetesDeployerConfig",
    "Resources",
    "Toleration",
    "reaching",
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Resources(_Frozen):
    """Of one pod. The CPU limit is what the server sizes its workers by."""

    requests: dict[str, str] = {"cpu": "1", "memory": "1Gi"}
    limits: dict[str, str] = {"cpu": "2", "memory": "2Gi"}


class Toleration(_Frozen):
    """Of a node's taint."""

    key: str
    operator: str = Field(default="Exists", pattern="^(Exists|Equal)$")
    value: str = ""
    effect: str = ""


class KedaScaling(_Frozen):
    """By KEDA, which the cluster must have, and which reads from Prometheus how much there is to do."""

    prometheus: str = Field(pattern=r"^https?://[^/@]+")
    """As KEDA reaches it from its own namespace: http://prometheus.vision.svc:9090."""
    queue_depth: float | None = Field(default=4, gt=0)
    """Images that may wait for their turn, for each pod."""
    requests_per_second: float | None = Field(default=None, gt=0)
    """Requests that each pod should get; measure first what one can do."""
    pods: str = Field(default='instance=~"{pods}"', pattern=r"\{pods\}")
    """Labels by which Prometheus knows the pods of this endpoint. `{pods}` becomes a pattern of their names; where
    another configuration than the chart's scrapes them, it may be `pod=~"{pods}"`."""
    wake_query: str = ""
    """PromQL that is above zero while there are requests, whether or not a pod runs: of the ingress, for example. It is
    what brings the first pod back after `min_replicas: 0`."""
    authentication: str = ""
    """A TriggerAuthentication of KEDA's, where Prometheus asks for a login."""
    polling_seconds: int = Field(default=15, ge=1)
    cooldown_seconds: int = Field(default=300, ge=0)
    """Without anything to do, before the last pod goes."""

    @model_validator(mode="after")
    def _name_something(self) -> KedaScaling:
        if self.queue_depth is None and self.requests_per_second is None:
            raise ValueError("set queue_depth, requests_per_second or both; for the CPU alone leave keda out")
        return self


class Autoscaling(_Frozen):
    """By the CPU that the pods use, and by what KEDA reads from Prometheus where `keda` is set."""

    min_replicas: int = Field(default=1, ge=0)
    """0, for visionops_kserve only and with `keda.wake_query`: no pod while there is nothing to do."""
    max_replicas: int = Field(default=3, ge=1)
    cpu_percent: int = Field(default=70, ge=1, le=100)
    """Of what they request."""
    keda: KedaScaling | None = None
    """Instead of a HorizontalPodAutoscaler, a ScaledObject, of which KEDA makes one."""

    @model_validator(mode="after")
    def _agree(self) -> Autoscaling:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}")
        if not self.min_replicas and not (self.keda and self.keda.wake_query):
            raise ValueError("min_replicas 0 needs keda.wake_query: pods that are not there say nothing of requests")
        return self


class IngressConfig(_Frozen):
    """The endpoint from outside of the cluster."""

    host: str = Field(min_length=1)
    class_name: str = ""
    tls_secret: str = ""
    """Certificate of the host; without one it is plain HTTP."""
    annotations: dict[str, str] = {}


class KubernetesDeployerConfig(BaseModel):
    """Where endpoints run, and what their pods are given."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    namespace: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    """It must exist: a deployer needs no rights beyond it."""
    image: str = Field(min_length=1)
    """The serving image, with tag or digest."""
    bundle_store: str = Field(pattern=r"^s3://[^/]+")
    """Where bundles are brought and pods fetch them: s3://bucket/prefix."""
    bundle_store_endpoint: str = ""
    """Of a store that is not Amazon's, as pods reach it. Here it is AWS_ENDPOINT_URL that counts."""
    bundle_store_region: str = "us-east-1"
    bundle_store_secret: str = ""
    """A Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; without one pods use their service account."""
    prediction_log_secret: str = ""
    """A Secret with what the prediction log's store asks for (PGPASSWORD); an S3 one has the bundles' otherwise."""
    api_keys_secret: str = ""
    """A Secret whose `api-keys` has the lines of python -m deploy.serving.keys; one key is made without it."""
    kubernetes_context: str = ""
    """Of the kubeconfig; its current one when empty."""
    incluster: bool = False
    """The deployer runs in a pod of the cluster, and uses its service account."""
    image_pull_policy: str = Field(default="IfNotPresent", pattern="^(Always|IfNotPresent|Never)$")
    image_pull_secrets: tuple[str, ...] = ()
    service_account: str = ""
    run_as: int | None = Field(default=10001, ge=1)
    """User and group of the pods; null where the cluster chooses them, as OpenShift does."""
    replicas: int = Field(default=1, ge=1)
    resources: Resources = Resources()
    autoscaling: Autoscaling | None = None
    """Instead of `replicas`."""
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    network_policy: bool = True
    allowed_namespaces: tuple[str, ...] = ()
    """Whose pods may call the endpoint, beside those of its own: that of the ingress controller, of Prometheus."""
    egress_ports: tuple[int, ...] = ()
    """That pods may call beside DNS and the ports of their stores: a Service whose pods listen on another port."""
    ingress: IngressConfig | None = None
    service_url: str = "http://{service}.{namespace}.svc:8000"
    """How this deployer reaches an endpoint that has no ingress. It only looks whether the new model answers."""
    timeout: float = Field(default=600, gt=0)
    """Seconds for new pods to be ready."""
    poll_seconds: float = Field(default=1, gt=0)


def reaching(namespace: str, context: str, *, incluster: bool) -> KubernetesDeployerConfig:
    """Return settings that reach the pods of a namespace, and say nothing of an endpoint.

    Args:
        namespace: ZenML's own, `zenml`, when it is empty.
        context: Of the kubeconfig; the current one when it is empty.
        incluster: Whether the pod's service account is used instead.
    """
    return KubernetesDeployerConfig.model_construct(
        image="",
        bundle_store="",
        namespace=namespace or "zenml",
        kubernetes_context=context,
        incluster=incluster,
    )
