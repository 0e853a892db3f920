"""Access table of the prediction server, which `deploy.http` enforces."""
