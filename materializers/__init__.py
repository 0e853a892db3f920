"""Store and load our artifacts in an artifact store."""
