"""The console: a web application for people, over reviews, runs, models and logs."""
