"""Labels of whole images: one (classification) or several (attributes). Classification has a single head."""
