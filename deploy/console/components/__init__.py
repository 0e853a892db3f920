"""Parts of pages with their own code in the browser."""
