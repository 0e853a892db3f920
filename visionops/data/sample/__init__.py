"""Render the sample data set: brushed-metal surfaces with four kinds of defect, in the VISION layout.

It needs no data and no network, so that a newcomer sees a trained model in minutes and a test has images with
pixel-accurate truth. A surface is lit from one side; a defect is a depth map, a change of reflectance and a tint, and
the light makes its edges bright or dark. Boxes are measured on the drawn pixels, not taken from the parameters.

>>> render_sample(SampleSource(kind="sample", images=160), Path("sample"))
>>> sorted(p.name for p in Path("sample/Surface").iterdir())
['inference', 'train', 'val']
"""
