"""Handwritten digits from noise: the model that Muster's demo and tests run on a whole gang.

A class-conditional diffusion transformer, small enough to be committed and to answer on a laptop in seconds, yet run
as the large ones are: parameters sharded over the ranks (FSDP2), the sequence split over the ranks (Ulysses), one
denoising loop that all ranks walk together. It is the miniature of a text-to-video job.

Template reference: `inference.samples.digits.handler:Digits`.
"""
