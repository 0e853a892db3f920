"""Validate images and labels and look for drift, with one ZenML data validator per stack for both.

flavors    ``visionops_images`` and ``visionops_evidently``, with their settings
images     our checks of images and labels, and our drift tests
evidently  the same, with Evidently's tests, report and workspace
active     the validator of the active stack
"""
