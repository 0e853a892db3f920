"""Review: people confirm, correct or reject what a model said. Knows no database, web framework or orchestrator."""
