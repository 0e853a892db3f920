"""Data validators: who judges images and labels, and who looks for drift. ZenML takes one a stack, for both.

flavors    ``visionops_images`` and ``visionops_evidently``, with their settings
images     our checks of images and labels, our tests of drift
evidently  the same, with Evidently's tests, report and workspace
active     the validator of the active stack
"""
