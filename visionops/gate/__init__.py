"""Decide when a challenger becomes champion."""
