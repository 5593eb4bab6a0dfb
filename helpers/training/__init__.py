"""How a network learns.

Notebooks: 05.

batches (memory map to device), perturb (augmentation, batched), losses, optimise (schedule,
averages, formats), capture (a step as a CUDA graph), fit (a step, an epoch, a training), processes
(several GPUs).
"""
