"""Build the Kubernetes objects of one endpoint as plain dicts, without a client or ZenML.

    Secret               an admin key for the deployer, and a key for clients
    Deployment           pods that fetch the bundle by its content, verify it, answer the smoke images, then are ready
    Service, Ingress     address of the endpoint
    HorizontalPodAutoscaler, PodDisruptionBudget, NetworkPolicy

All have the endpoint's `object_name`; the Secret's name ends with ``-keys``.
"""
