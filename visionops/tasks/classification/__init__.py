"""Labels of whole images: one (classification) or several (attributes). The first is the second with one head."""
