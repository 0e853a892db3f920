"""Check each component of a stack and report how to fix it: ``python -m stacks.doctor [NAME]``.

    findings   inputs and results of a check
    web        one HTTP request, and a short reason when it fails
    machine    folders, disks, container engines and images of this machine
    s3         buckets
    tracking   MLflow's servers and databases, the model registry
    cluster    namespaces of Kubernetes
    network    network policies between steps and the API server
    registries registries of container images
    alerting   Alertmanager and Pushgateway
    validators data validators, and Evidently's workspace
    server     ZenML's server or database, and the stack registered in it
    diagnosis  checks for each flavor, run in parallel
    report     output as a table or as lines

A check is a function from a component to findings. It removes whatever it writes, waits a few seconds at most and
never retries.
"""
