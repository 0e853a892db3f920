"""Parts of pages that have code of their own in the browser."""
