"""Review: people confirm, correct or reject predictions. Independent of database, web framework and orchestrator."""
