"""Other ways to serve the same graph, each with a service file and, as their pins contradict ours, its environment."""
