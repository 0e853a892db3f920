"""Connect the steps to pipelines."""
