"""Population theories by quadrature over a neuron's reduced variables: any activation, biases, Gaussian inputs.

The closed forms of the parent package are those of ReLU parity without biases, where the norm of a neuron separates.
Here nothing separates: single-index teachers on Gaussian inputs, and parities with other activations or with biases.
Beyond the paper (arXiv:2510.15174).
"""
