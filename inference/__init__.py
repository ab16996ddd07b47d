"""How the posterior is reached: samplers, guides and fixed points. Imports only `models`."""
