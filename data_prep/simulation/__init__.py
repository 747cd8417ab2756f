"""A simulated cohort: known domains, images and counts drawn from one latent tissue, in Space Ranger's layout.

parameters.py   every number, beside the measured quantity it imitates
tissue.py       spots, domains, states: the latent
expression.py   latent -> counts, and the oracle's conditional means
histology.py    latent -> H&E image
files.py        one slide -> a Space Ranger folder
cohort.py       the slides of all patients, with sheet and record
"""
