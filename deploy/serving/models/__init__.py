"""Which models are loaded, who of them answers, and how an answer is made."""
