"""How good a bundle is: scores, pictures and a report, measured with the engine that will serve it."""
