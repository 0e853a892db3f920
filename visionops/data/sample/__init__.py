"""The rendered sample: brushed-metal surfaces with four kinds of defect, in the VISION layout.

Needs no data and no network, so that a newcomer sees a trained model in minutes and a test has images whose truth
is known to the pixel. A surface is lit from one side; a defect is a depth map, a change of reflectance and a tint,
and the light makes its edges bright or dark. Boxes are measured on what was drawn, not taken from what was asked.

>>> render_sample(SampleSource(kind="sample", images=160), Path("sample"))
>>> sorted(p.name for p in Path("sample/Surface").iterdir())
['inference', 'train', 'val']
"""
