"""The Kubernetes objects of one endpoint, as plain dicts. Knows neither a client nor ZenML.

    Secret               the key that opens the server to its deployer, and one for its clients
    Deployment           pods that fetch the bundle by its content, verify it, answer the smoke images, then are ready
    Service, Ingress     where they answer
    HorizontalPodAutoscaler, PodDisruptionBudget, NetworkPolicy

All of them bear the endpoint's `object_name`, the Secret with ``-keys`` behind it.
"""
