"""Tests of releases on hold."""
