"""Update rules, one file an algorithm: kernels as NumPyro would take them. Knows NumPyro, not our networks."""
