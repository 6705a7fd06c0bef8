"""`vtcc cluster`: from a folder of images without labels to clusters that can be looked at.

Steps, in order, each with a typed result (`state`): `intake.listed`, `prepare`, `learn`, `judge`,
`result`. `vtcc.grouping.run` strings them together.
"""
