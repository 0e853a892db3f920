"""Store the review's data: a database by SQLAlchemy, and images in a folder or an object store."""
