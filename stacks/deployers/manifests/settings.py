"""Define the configuration of the deployers to a cluster."""

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
    """Resources of one pod. The server sizes its workers by the CPU limit."""

    requests: dict[str, str] = {"cpu": "1", "memory": "1Gi"}
    limits: dict[str, str] = {"cpu": "2", "memory": "2Gi"}


class Toleration(_Frozen):
    """Toleration of a node's taint."""

    key: str
    operator: str = Field(default="Exists", pattern="^(Exists|Equal)$")
    value: str = ""
    effect: str = ""


class KedaScaling(_Frozen):
    """Scaling by KEDA, which must be installed in the cluster and reads the load from Prometheus."""

    prometheus: str = Field(pattern=r"^https?://[^/@]+")
    """URL of Prometheus from KEDA's namespace, for example http://prometheus.vision.svc:9090."""
    queue_depth: float | None = Field(default=4, gt=0)
    """Queued images per pod."""
    requests_per_second: float | None = Field(default=None, gt=0)
    """Requests per second and pod; measure the capacity of one pod first."""
    pods: str = Field(default='instance=~"{pods}"', pattern=r"\{pods\}")
    """Labels of this endpoint's pods in Prometheus. `{pods}` becomes a pattern of their names; with a scrape
    configuration other than the chart's, it may be `pod=~"{pods}"`."""
    wake_query: str = ""
    """PromQL that is above zero while there are requests, even when no pod runs, for example from the ingress. It
    starts the first pod after `min_replicas: 0`."""
    authentication: str = ""
    """Name of KEDA's TriggerAuthentication, if Prometheus needs a login."""
    polling_seconds: int = Field(default=15, ge=1)
    cooldown_seconds: int = Field(default=300, ge=0)
    """Idle seconds before the last pod stops."""

    @model_validator(mode="after")
    def _name_something(self) -> KedaScaling:
        if self.queue_depth is None and self.requests_per_second is None:
            raise ValueError("set queue_depth, requests_per_second or both; to scale by CPU alone remove keda")
        return self


class Autoscaling(_Frozen):
    """Scaling by CPU usage, or with `keda` also by load from Prometheus."""

    min_replicas: int = Field(default=1, ge=0)
    """Minimum number of pods. 0 runs no pod while idle; it needs visionops_kserve and `keda.wake_query`."""
    max_replicas: int = Field(default=3, ge=1)
    cpu_percent: int = Field(default=70, ge=1, le=100)
    """Target CPU usage, in percent of the request."""
    keda: KedaScaling | None = None
    """Use a ScaledObject, from which KEDA creates a HorizontalPodAutoscaler."""

    @model_validator(mode="after")
    def _agree(self) -> Autoscaling:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}")
        if not self.min_replicas and not (self.keda and self.keda.wake_query):
            raise ValueError("min_replicas 0 needs keda.wake_query: without a pod there are no metrics of requests")
        return self


class IngressConfig(_Frozen):
    """Ingress for clients outside the cluster."""

    host: str = Field(min_length=1)
    class_name: str = ""
    tls_secret: str = ""
    """Secret with the host's certificate; "" for plain HTTP."""
    annotations: dict[str, str] = {}


class KubernetesDeployerConfig(BaseModel):
    """Namespace of the endpoints, and settings of their pods."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    namespace: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    """Namespace of the endpoints, which must exist: a deployer needs no rights outside it."""
    image: str = Field(min_length=1)
    """Serving image, with tag or digest."""
    bundle_store: str = Field(pattern=r"^s3://[^/]+")
    """Store to which bundles are uploaded and from which pods fetch them: s3://bucket/prefix."""
    bundle_store_endpoint: str = ""
    """Endpoint URL of a store other than Amazon's, as pods reach it; this machine uses AWS_ENDPOINT_URL."""
    bundle_store_region: str = "us-east-1"
    bundle_store_secret: str = ""
    """Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; without one, pods use their service account."""
    prediction_log_secret: str = ""
    """Secret with credentials of the prediction log's store (PGPASSWORD); S3 stores default to the bundles' Secret."""
    api_keys_secret: str = ""
    """Secret whose `api-keys` has the lines of python -m deploy.serving.keys; without one, a single key is created."""
    kubernetes_context: str = ""
    """Context of the kubeconfig; "" for the current one."""
    incluster: bool = False
    """Whether the deployer runs in a pod of the cluster and uses its service account."""
    image_pull_policy: str = Field(default="IfNotPresent", pattern="^(Always|IfNotPresent|Never)$")
    image_pull_secrets: tuple[str, ...] = ()
    service_account: str = ""
    run_as: int | None = Field(default=10001, ge=1)
    """User and group id of the pods; null lets the cluster choose, as OpenShift does."""
    replicas: int = Field(default=1, ge=1)
    resources: Resources = Resources()
    autoscaling: Autoscaling | None = None
    """Autoscaling, which replaces `replicas`."""
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    network_policy: bool = True
    allowed_namespaces: tuple[str, ...] = ()
    """Other namespaces whose pods may call the endpoint, for example the ingress controller's and Prometheus'."""
    egress_ports: tuple[int, ...] = ()
    """Ports that pods may call besides DNS and their stores, for example if a Service's pods use another port."""
    ingress: IngressConfig | None = None
    service_url: str = "http://{service}.{namespace}.svc:8000"
    """URL by which the deployer checks the new model of an endpoint without ingress."""
    timeout: float = Field(default=600, gt=0)
    """Seconds until new pods must be ready."""
    poll_seconds: float = Field(default=1, gt=0)


def reaching(namespace: str, context: str, *, incluster: bool) -> KubernetesDeployerConfig:
    """Return settings that reach the pods of a namespace, without settings of an endpoint.

    Args:
        namespace: Name of the namespace; "" for ZenML's default, `zenml`.
        context: Context of the kubeconfig; "" for the current one.
        incluster: Use the pod's service account instead.
    """
    return KubernetesDeployerConfig.model_construct(
        image="",
        bundle_store="",
        namespace=namespace or "zenml",
        kubernetes_context=context,
        incluster=incluster,
    )
