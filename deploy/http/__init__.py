"""Code that all VisionOps servers share: API keys and roles, access checks, errors, request bodies and logs."""
