"""What the servers of VisionOps share: keys and roles, the gate, errors, bodies and logs of requests."""
