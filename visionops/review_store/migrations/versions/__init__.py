"""Migrations, one module for each schema version, named by its number."""
