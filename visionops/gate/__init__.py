"""When a challenger becomes champion."""
