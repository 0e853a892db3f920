"""Looks at each component of a stack for real, and says what to mend: ``python -m stacks.doctor [NAME]``.

    findings   what a check says, and what it is given
    web        one request, and in words why there is no answer
    machine    folders, disks, container engines and images of this machine
    s3         buckets
    tracking   MLflow's servers and databases, the model registry
    cluster    namespaces of Kubernetes
    network    whether network policies let steps reach the API server
    registries registries of container images
    alerting   Alertmanager and Pushgateway
    validators data validators, and Evidently's workspace
    server     ZenML's server or database, and what it has of the stack
    diagnosis  which checks a component has; all of them at once
    report     the table

A check is a function from a component to findings. What it tries it takes back; it waits for seconds, and tries once.
"""
