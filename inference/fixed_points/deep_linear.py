"""Deep linear networks: their exact posterior, by one integral over the scale of f.

With φ the identity the network is f(x) = v_1ᵀ w_1 x, where v_l = w_(l+1)ᵀ v_(l+1) and v_L = N_L^(-γ) a.
Given v_l the vector v_(l-1) is Gaussian and isotropic, so that only its length depends on what lies
above: with independent g_l ~ Gamma(shape N_l/2, rate N_l/2), one a hidden layer,

    f | u ~ GP(0, u K),     u = Π_l g_l,     K the kernel of the NNGP,     p(u | y) ∝ p(u) Normal(y; 0, uK + κ²P I).

A prediction is that of Gaussian-process regression with the kernel uK, averaged over p(u | y). The
density of x = ln u is the inverse Fourier transform of E[e^(itx)] = Π_l Γ(N_l/2 + it)/Γ(N_l/2) (N_l/2)^(-it).
To keep its digits where the posterior is, far out in its tail if κ is small, the law is tilted: e^(σx) p(x)
is that of Gammas of shape N_l/2 + σ, and 2σ = N_l (Q_l - 1) of the saddle point, which is
:class:`inference.fixed_points.KernelRenormalisation`, puts its mode at that of the posterior.

Sources: Hanin and Zlokapa, *Bayesian interpolation with deep linear networks*, PNAS 120 (2023); Li and
Sompolinsky, *Statistical mechanics of deep linear neural networks*, Physical Review X 11 (2021).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import numpy as np
from scipy.linalg import eigh
from scipy.special import gammaln, loggamma, logsumexp, polygamma, psi
from scipy.stats import norm

from inference.fixed_points.coverage import check_dataset, check_is_dataset
from inference.fixed_points.kernel_renormalisation import layer_factors
from inference.fixed_points.regression.covariances import nngp_kernel, nngp_variance
from inference.fixed_points.regression.gaussian_process import log_leave_one_out
from inference.fixed_points.regression.process_point import GaussianProcessPoint, dataset_point
from inference.runs.progress import ProgressCallback
from models import Dataset, Isotropic, Network, checks

# Posterior mass, relative to its largest, that is left out of the integral.
_NEGLIGIBLE = 1e-15
# Of a tilted Gamma; below, its law in the logarithm would spread over hundreds of units.
_LEAST_SHAPE = 0.25


@dataclass(frozen=True, eq=False, kw_only=True)
class DeepLinearPoint(GaussianProcessPoint):
    """The exact posterior of a deep linear network: a mixture of Gaussian processes."""

    scale_mean: float  # E[u | y]; 1 under the prior
    scale_sd: float  # standard deviation of u given y
    log_evidence: float  # log p(y)

    def to_dict(self) -> dict:
        """As :meth:`GaussianProcessPoint.to_dict`, with the scale and the evidence."""
        own = {name: getattr(self, name) for name in ("scale_mean", "scale_sd", "log_evidence")}
        return super().to_dict() | own


@dataclass(frozen=True)
class DeepLinear:
    """The exact posterior of a network with the activation identity, of any depth and widths, on a
    data set.

    Covers the isotropic prior without biases. Its networks are independent draws from the posterior
    of all weights. An oracle for every other scheme; the equations: deep_linear.py.

    Examples
    --------
    >>> from models import DeepNetwork
    >>> rng = np.random.default_rng(0)
    >>> x, x_test = rng.normal(size=(20, 5)), rng.normal(size=(50, 5))
    >>> data = Dataset(x, 3 * x[:, 0], x_test, 3 * x_test[:, 0])
    >>> network = DeepNetwork(5, (30, 20), kappa=0.1, activation="identity")
    >>> point = DeepLinear().solve(network, data)
    >>> bool(point.scale_mean > 1), {k: v.shape for k, v in point.sample_networks(jax.random.key(0), 3).items()}
    (True, {'a': (3, 20), 'w2': (3, 20, 30), 'w': (3, 30, 5)})
    """

    def solve(
        self,
        network: Network,
        teacher_or_data: Dataset,
        *,
        num_data: int | None = None,
        start: str = "prior",
        key: jax.Array | None = None,
        progress: bool | ProgressCallback | None = None,
    ) -> DeepLinearPoint:
        """The posterior on a data set.

        Parameters
        ----------
        network
            With activation identity and the isotropic prior in every layer, without biases.
        teacher_or_data
            A data set; the theory has no population form.
        num_data
            None.
        start, key, progress
            As every theory takes them; the answer is unique and exact, and takes no time.

        Raises
        ------
        ValueError
            For a combination that the theory does not cover.
        """
        checks.one_of("start", start, ("prior", "aligned"))
        check_is_dataset(teacher_or_data, "DeepLinear")
        check_dataset(network, teacher_or_data, num_data, "DeepLinear", Isotropic, deep=True)
        if network.activation != "identity" or network.bias:
            what = "biases" if network.bias else f"activation {network.activation!r}"
            raise ValueError(
                f"network has {what}, and DeepLinear covers the activation identity without biases; use NNGP or "
                "KernelRenormalisation."
            )
        return _posterior(network, teacher_or_data)


def _posterior(network: Network, data: Dataset) -> DeepLinearPoint:
    ridge, y = network.kappa**2 * data.num_data, data.y
    eigenvalues, vectors = eigh(nngp_kernel(network, data.x))
    kept = eigenvalues > 1e-12 * eigenvalues.max()
    eigenvalues, vectors = eigenvalues[kept], vectors[:, kept]
    along = vectors.T @ y
    scale = LogScale.of(network, data)

    def log_likelihood(u):  # log Normal(y; 0, uK + ridge I) at every u
        total = u[:, None] * eigenvalues + ridge
        null = (y @ y - along @ along) / ridge + (len(y) - len(along)) * math.log(ridge)
        rest = (along**2 / total + np.log(total)).sum(axis=1)
        return -0.5 * (rest + null + len(y) * math.log(2 * math.pi))

    def averages(step):
        x, log_prior = scale.log_density(step)
        log_weights = log_prior + log_likelihood(np.exp(x))
        log_evidence = float(logsumexp(log_weights))
        weights = np.exp(log_weights - log_evidence)
        used = weights > _NEGLIGIBLE * weights.max()
        return np.exp(x[used]), weights[used], log_evidence

    cross = nngp_kernel(network, data.x_test, data.x) @ vectors

    def predict(u, weights):
        gain = u[:, None] / (u[:, None] * eigenvalues + ridge)
        mean = cross * along @ (weights @ gain)
        of_mean = np.einsum("ti,ij,tj->t", cross * along, (gain.T * weights) @ gain, cross * along) - mean**2
        within = weights @ u * nngp_variance(network, data.x_test) - cross**2 @ (
            weights @ (u[:, None] * gain)
        )
        return mean, np.maximum(of_mean + within, 0.0)

    u, weights, log_evidence = averages(scale.step)
    mean, variance = predict(u, weights)
    coarse, _ = predict(*averages(2 * scale.step)[:2])
    error = float(abs(np.mean((mean - coarse) * data.y_test)) / np.mean(data.y_test**2))
    # C⁻¹y and the diagonal of C⁻¹, C = uK + ridge I, at every u.
    shrunk = u[:, None] * eigenvalues / (u[:, None] * eigenvalues + ridge)
    coefficients = (y - (shrunk * along) @ vectors.T) / ridge
    diagonal = (1 - shrunk @ (vectors**2).T) / ridge
    log_weights = np.log(weights)[:, None]
    fresh = norm.logpdf(ridge * coefficients, scale=np.sqrt(2 * ridge - ridge**2 * diagonal))
    scale_mean = float(weights @ u)
    return dataset_point(
        network, data, "deep-linear", residual=0.0, error=error + 1e-15, kind=DeepLinearPoint,
        sampler=DeepLinearSampler(network, data, u, weights, scale),
        predictions=mean,
        predictive_variance=variance,
        # p(y_μ | y_-μ) = 1/E[1/p(y_μ | y_-μ, u)] over the posterior of u given all of y.
        elpd_loo_pointwise=-logsumexp(log_weights - log_leave_one_out(coefficients, diagonal), axis=0),
        log_density_pointwise=logsumexp(log_weights + fresh, axis=0),
        scale_mean=scale_mean,
        scale_sd=float(np.sqrt(weights @ (u - scale_mean) ** 2)),
        log_evidence=log_evidence,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class LogScale:
    """x = ln u of Gammas tilted by e^(σx): shapes N_l/2 + σ, rates N_l/2."""

    shapes: np.ndarray
    rates: np.ndarray
    tilt: float  # σ
    step: float  # of a grid that resolves the posterior

    @classmethod
    def of(cls, network: Network, data: Dataset) -> LogScale:
        """The tilt whose mode is the posterior's saddle point, and a step well below its width."""
        rates = np.array(network.widths) / 2
        factors, _ = layer_factors(network, data)
        drive = rates[0] * (factors[0] - 1)  # s/2, the same for every layer
        tilt = max(float(drive), _LEAST_SHAPE - rates.min())
        # The curvature of the log likelihood is at most about P + |s|.
        width = min(np.sqrt(polygamma(1, rates + tilt).sum()), (data.num_data + abs(2 * drive)) ** -0.5)
        return cls(rates + tilt, rates, tilt, 0.2 * float(width))

    def log_density(self, step: float) -> tuple[np.ndarray, np.ndarray]:
        """x on a grid, and log (p(x) × step) of the law that is not tilted."""
        x, log_tilted = self.tilted(step)
        norm_of_tilt = (gammaln(self.shapes) - gammaln(self.rates)).sum() - self.tilt * np.log(
            self.rates
        ).sum()
        return x, log_tilted - self.tilt * x + norm_of_tilt

    def tilted(self, step: float, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """x = Σ_(l ≥ first) ln g_l on a grid, and log (p̃(x) × step) of the tilted law."""
        shapes, rates = self.shapes[first:], self.rates[first:]
        mean, sd = (psi(shapes) - np.log(rates)).sum(), np.sqrt(polygamma(1, shapes).sum())
        left, right = 45 / shapes.min() + 12 * sd, 15 * sd + 5
        count = 2 ** math.ceil(math.log2((left + right) / step))
        x = mean - left + step * np.arange(count)
        t = 2 * np.pi * np.fft.fftfreq(count, step)
        log_transform = (loggamma(shapes[:, None] + 1j * t) - gammaln(shapes)[:, None]).sum(axis=0)
        mass = np.fft.fft(np.exp(log_transform - 1j * t * (x[0] + np.log(rates).sum()))).real / count
        inside = mass > 1e-14 * mass.max()  # below is rounding
        return x[inside], np.log(mass[inside])


@dataclass(frozen=True, eq=False)
class DeepLinearSampler:
    """Independent networks from the exact posterior.

    Given u and y, the coefficients v_0 = w_1ᵀv_1 of f(x) = v_0·x have the posterior of a linear
    regression, and nothing else depends on y: the g_l have the law of the prior given their product,
    the vectors v_l = |v_l| × a direction drawn uniformly, and the rows of the weights across them
    those of the prior,

        w_l = (I - v̂_l v̂_lᵀ) z_l + v_l v_(l-1)ᵀ/|v_l|²,      z_l ~ prior.
    """

    network: Network
    data: Dataset
    u: np.ndarray
    weights: np.ndarray
    scale: LogScale

    def __call__(self, rng: np.random.Generator, num_draws: int) -> dict[str, np.ndarray]:
        """Arrays a (n, N_L), w (n, N, d), …"""
        network, layers = self.network, self.network.layers
        u = rng.choice(self.u, num_draws, p=self.weights)
        lengths = self._lengths(rng, np.log(u))  # g_l, (L, n)
        last = network.widths[-1]
        square = network.readout_scale**2 * last ** (1 - 2 * network.gamma) * lengths[-1]
        v = _directions(rng, num_draws, last) * np.sqrt(square)[:, None]
        networks = {"a": v * last**network.gamma}
        for layer in reversed(layers):
            variance = 1 / layer.prior.precision(layer.input_dim)
            if layer.number > 1:
                below = square * variance * layer.input_dim * lengths[layer.number - 2]
                next_v = _directions(rng, num_draws, layer.input_dim) * np.sqrt(below)[:, None]
            else:
                below, next_v = None, self._coefficients(rng, square * variance)
            z = np.sqrt(variance) * rng.standard_normal((num_draws, layer.width, layer.input_dim))
            across = next_v - np.einsum("nk,nki->ni", v, z)
            networks[layer.site("w")] = z + v[..., None] * across[:, None] / square[:, None, None]
            v, square = next_v, below
        return networks

    def _lengths(self, rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
        """g_l (L, n) from the prior given Σ_l ln g_l = x (n,)."""
        logs = []
        for layer, (shape, rate) in enumerate(zip(self.scale.shapes, self.scale.rates, strict=True)):
            if layer == len(self.scale.shapes) - 1:
                logs.append(x)
                break
            rest, log_rest = self.scale.tilted(self.scale.step, layer + 1)
            below = np.empty_like(x)
            for i, total in enumerate(x):  # ln g = total - rest, for the grid of the rest
                log_weights = log_rest + shape * (total - rest) - rate * np.exp(total - rest)
                below[i] = rest[np.argmax(log_weights + rng.gumbel(size=rest.shape))]
            logs.append(x - below)
            x = below
        return np.exp(np.stack(logs))

    def _coefficients(self, rng: np.random.Generator, variance: np.ndarray) -> np.ndarray:
        """v_0 (n, d) given y, of prior Normal(0, variance I)."""
        x, y, ridge = self.data.x, self.data.y, self.network.kappa**2 * self.data.num_data
        eigenvalues, vectors = eigh(x.T @ x / ridge)
        precision = eigenvalues + 1 / variance[:, None]
        noise = rng.standard_normal(precision.shape) / np.sqrt(precision)
        return (vectors.T @ x.T @ y / ridge / precision + noise) @ vectors.T


def _directions(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    z = rng.standard_normal((count, size))
    return z / np.linalg.norm(z, axis=1, keepdims=True)
