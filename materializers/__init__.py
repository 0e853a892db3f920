"""How our artifacts live in an artifact store."""
