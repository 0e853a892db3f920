"""Where review keeps what it knows: a database by SQLAlchemy, and images in a folder or an object store."""
