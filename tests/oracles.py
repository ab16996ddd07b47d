"""Oracles of the population theories: the equations of theory.md, sections 1 to 4, on
importance-sampled neurons.

Independent of ``inference.fixed_points``: a neuron is drawn, not integrated on a grid.

Neuron.  By symmetry a neuron is known by the norms v_a of its weights in blocks of n_a inputs, and
its bias b. Under the prior v_a √ρ ~ χ(n_a), so that in y_a = log v_a the log density is n_a y_a + ½
n_a log ρ - ½ ρ v_a² + const.

- Parity: blocks w_1, …, w_k (one input each) and s = |w_rest|. Flipping the sign of one weight w_j
  at fixed b only
  relabels the inputs: it maps h_{T,j} to ±h_{T,j}, and B² and G, made of squares, do not see it. So
  w_j > 0.
- Single index: w_u = u·w and |w - w_u u| (isotropic prior) or |w_{S⊖u}| and |w_rest| (ARD). The
  inputs are Gaussian,
  hence rotations of a block and w_u → -w_u (which maps B to ±B) are symmetries of the density.

Modes.  φ(u + s g) = Σ_n μ_n(u, s) He_n(g)/√(n!).

- Parity: h_{T,T'} of χ_T χ_{T'}, T ⊆ S, T' in the rest; with Gaussian replacement Σ_{|T'|=j}
  h_{T,T'}² = h_{T,j}²,
  h_{T,j} = 2^-k Σ_σ χ_T(σ) μ_j(w_S·σ + b, s). Two different subsets differ in an input whose sign
  flip turns the sign of exactly one of the two: N c E_p[h h'] is diagonal, with or without bias and
  for any activation, and is λ_ij = N c E_p[q_ij]/(C(k,i) C(d-k,j)) by permutations. ⟨f⟩ = m χ_S for
  the same reason.
- Single index: He_n(w·x/|w|)/√(n!) = Σ_{i+Σj=n} √(n!/(i! Πj!)) (w_u/|w|)^i Π_B (v_B/|w|)^{j_B}
  He_i(z)/√(i!)
  Π_B He_{j_B}(ŵ_B·x_B)/√(j_B!), and E_x[He_j(ŵ·x) He_j(ŵ'·x)]/j! = (ŵ·ŵ')^j = Σ_l f_jl
  C_l(ŵ·ŵ')/C_l(1) with the Gegenbauer polynomials C_l of the block. Averaged over rotations two
  modes (i, j, l), (i', j', l') mix only where l = l' in each block (Schur) and i - i' is even (w_u
  → -w_u): blocks of size > 1, each with Π_B dim H_{l_B} copies. The mean prediction ⟨f⟩ lies in the
  block of the target, l = 0, and is not a multiple of y.

Averages.  Nodes are scrambled Sobol points of a mixture: the prior at several scales, a broad
component in the logs, components at maxima of the density times its contribution to m (L-BFGS), and
Student components fitted to the density and to the density times its contribution to m, twice
(population Monte Carlo). Every node has the weight prior/mixture. A fixed point is solved on each
of `RANDOMISATIONS` independent scramblings by itself: their mean is the result and their scatter
the standard error, with all propagation through the equations in it.
"""

import math
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import pairwise, product

import numpy as np
from scipy.integrate import quad
from scipy.interpolate import RectBivariateSpline
from scipy.optimize import brentq, minimize, root
from scipy.special import erf, eval_gegenbauer, gammaincinv, gammaln, logsumexp, ndtr, ndtri, owens_t
from scipy.stats import qmc

from models import ARD, SparseParity

RANDOMISATIONS = 16
_CHUNK = 1 << 13
_SQRT_2PI = math.sqrt(2 * math.pi)


# Hermite coefficients of the activations


def hermite_coefficients(activation, order, u, s):
    """μ_0..μ_order of φ(u + s g), shape (..., order + 1), and E[φ(u + s g)²], shape (...)."""
    u, s = np.broadcast_arrays(np.asarray(u, float), np.asarray(s, float))
    out = np.zeros((*u.shape, order + 1))
    if activation == "identity":
        out[..., 0] = u
        if order:
            out[..., 1] = s
        return out, u**2 + s**2
    if activation == "tanh":
        return _tanh_coefficients(order, u, s)
    if activation == "erf":  # erf(u + s g) averages to 2 Φ(τ) - 1; E[erf²] by Owen's T
        spread = 1 / np.sqrt(1 + 2 * s**2)
        t, slope = math.sqrt(2) * u * spread, math.sqrt(2) * s * spread
        out[..., 0] = erf(u * spread)
        density = 2 * np.exp(-0.5 * t**2) / _SQRT_2PI
        for j in range(1, order + 1):
            out[..., j] = (
                (-1) ** (j - 1) * slope**j * _hermite(j - 1, t) * density / math.sqrt(math.factorial(j))
            )
        return out, 1 - 8 * owens_t(t, 1 / np.sqrt(1 + 4 * s**2))
    t = u / s
    cdf, density = ndtr(t), np.exp(-0.5 * t**2) / _SQRT_2PI
    out[..., 0] = u * cdf + s * density
    if order:
        out[..., 1] = s * cdf
    for j in range(2, order + 1):
        out[..., j] = s * (-1) ** j * _hermite(j - 2, t) * density / math.sqrt(math.factorial(j))
    return out, (u**2 + s**2) * cdf + u * s * density


def _hermite(n, t):
    """He_n(t)."""
    return np.polynomial.hermite_e.hermeval(t, [0.0] * n + [1.0])


_TANH_U, _TANH_S = 40.0, (1e-3, 40.0)


@lru_cache
def _tanh_splines(order):
    """Splines of μ_0..μ_order and the square over (asinh 2u, log s), by the trapezoid rule in g."""
    x = np.linspace(0, math.asinh(2 * _TANH_U), 180)
    y = np.linspace(*np.log(_TANH_S), 130)
    g = np.linspace(-9, 9, 2401)
    weight = np.exp(-0.5 * g**2) / _SQRT_2PI * (g[1] - g[0])
    basis = np.polynomial.hermite_e.hermevander(g, order)
    basis /= np.sqrt([math.factorial(n) for n in range(order + 1)])
    table = np.empty((len(x), len(y), order + 2))
    for column, s in enumerate(np.exp(y)):
        values = np.tanh(0.5 * np.sinh(x)[:, None] + s * g)
        table[:, column, :-1] = (values * weight) @ basis
        table[:, column, -1] = values**2 @ weight
    return [RectBivariateSpline(x, y, table[:, :, n]) for n in range(order + 2)]


def _tanh_coefficients(order, u, s):
    splines = _tanh_splines(max(order, 2) if order <= 2 else 10)
    x = np.arcsinh(2 * np.minimum(np.abs(u), _TANH_U)).ravel()
    y = np.log(np.clip(s, *_TANH_S)).ravel()
    out = np.empty((*u.shape, order + 1))
    for j in range(order + 1):
        values = splines[j].ev(x, y).reshape(u.shape)
        out[..., j] = values * np.sign(u) if j % 2 == 0 else values
    return out, splines[-1].ev(x, y).reshape(u.shape)


# Geometries: blocks of weights, and the modes


@dataclass(frozen=True)
class Problem:
    """A network on a teacher in the oracle's variables, with the modes that a theory resolves.

    Parameters
    ----------
    network, teacher
        From ``models``.
    num_data
        P; None for the population.
    order, extra
        Largest degree outside the relevant inputs or direction, and on a single index how far n
        exceeds p.
    target_only
        Only the block of modes that mix with the target.
    """

    network: object
    teacher: object
    num_data: int | None = None
    order: int = 4
    extra: int = 4
    target_only: bool = False

    @property
    def parity(self):
        return isinstance(self.teacher, SparseParity)

    @property
    def ard(self):
        return isinstance(self.network.prior, ARD)

    @property
    def k(self):
        return len(self.teacher.relevant)

    @cached_property
    def blocks(self):
        """(size, group) of every block; group 0 is S, 1 the rest."""
        d, k = self.network.input_dim, self.k
        if self.parity:
            return [(1, 0)] * k + [(d - k, 1)]
        if self.ard:
            return [(1, 0)] + [(k - 1, 0)] * (k > 1) + [(d - k, 1)]
        return [(1, 0), (d - 1, 0)]

    @cached_property
    def group_sizes(self):
        return np.array([sum(n for n, g in self.blocks if g == group) for group in (0, 1)], float)

    @property
    def coupling(self):
        """c = σ_a²/N^(2γ)."""
        return self.network.readout_scale**2 / self.network.width ** (2 * self.network.gamma)

    @cached_property
    def amplitude(self):
        """√E[y²]."""
        if self.parity or self.teacher.normalized:
            return 1.0
        return math.sqrt(math.factorial(self.teacher.hermite_degree))

    @cached_property
    def precision(self):
        """Prior precision, or its prior mean."""
        prior, d = self.network.prior, self.network.input_dim
        return prior.shape / prior.rate_for(d) if self.ard else d / prior.scale**2

    @cached_property
    def modes(self):
        """(degree i, orders, harmonics, copies) of every resolved mode."""
        d, k = self.network.input_dim, self.k
        if self.parity:
            if self.target_only:
                return [(k, (0,), (), 1)]
            orders = range(min(self.order, d - k) + 1)
            return [
                (i, (j,), (), math.comb(k, i) * math.comb(d - k, j)) for j in orders for i in range(k + 1)
            ]
        p, sizes, found = self.teacher.hermite_degree, [n for n, _ in self.blocks[1:]], []
        for orders in product(range(self.order + 1), repeat=len(sizes)):
            for i in range(p + self.extra - sum(orders) + 1):
                for ls in product(*(range(j % 2, j + 1, 2) for j in orders)):
                    copies = math.prod(_harmonics(n, x) for n, x in zip(sizes, ls, strict=True))
                    resolved = sum(orders) <= self.order and copies > 0
                    if resolved and not (self.target_only and (any(ls) or (i - p) % 2)):
                        found.append((i, orders, ls, copies))
        return found

    @cached_property
    def copies(self):
        return np.array([mode[3] for mode in self.modes], float)

    @cached_property
    def mixes(self):
        """Which pairs of modes mix, shape (modes, modes)."""
        if self.parity:
            return np.eye(len(self.modes), dtype=bool)
        return np.array([[a[2] == b[2] and (a[0] - b[0]) % 2 == 0 for b in self.modes] for a in self.modes])

    @cached_property
    def target(self):
        degree = self.k if self.parity else self.teacher.hermite_degree
        return next(n for n, m in enumerate(self.modes) if m[0] == degree and not any(m[1]) and not any(m[2]))

    def features(self, y):
        """Amplitudes in the modes (n, modes), E_x[φ²] (n,), |w_S|² and |w_rest|² (n, 2) at y (n,
        blocks [+ 1])."""
        count = len(self.blocks)
        v = np.exp(y[:, :count])
        b = self.network.bias_scale * y[:, count] if self.network.bias else np.zeros(len(y))
        a, power = np.empty((len(y), len(self.modes))), np.empty(len(y))
        inner = self._parity_amplitudes if self.parity else self._index_amplitudes
        for begin in range(0, len(y), _CHUNK):
            part = slice(begin, begin + _CHUNK)
            a[part], power[part] = inner(v[part], b[part])
        groups = np.array([g for _, g in self.blocks])
        return a, power, np.stack([(v[:, groups == g] ** 2).sum(axis=1) for g in (0, 1)], axis=1)

    def _parity_amplitudes(self, v, b):
        signs, characters, sizes = _walsh(self.k)
        u = v[:, :-1] @ signs.T + b[:, None]
        order = 0 if self.target_only else max(m[1][0] for m in self.modes)
        mu, square = hermite_coefficients(self.network.activation, order, u, v[:, -1:])
        if self.target_only:
            return mu[..., 0] @ characters[:, -1:], square.mean(axis=1)
        member = (sizes[:, None] == np.arange(self.k + 1)).astype(float)
        q = [(mu[..., j] @ characters) ** 2 @ member for j in range(order + 1)]
        return np.sqrt(np.concatenate(q, axis=1)), square.mean(axis=1)

    def _index_amplitudes(self, v, b):
        r = np.sqrt((v**2).sum(axis=1))
        largest = max(i + sum(orders) for i, orders, _, _ in self.modes)
        mu, square = hermite_coefficients(self.network.activation, largest, b, r)
        unit, a = v / r[:, None], np.empty((len(v), len(self.modes)))
        for column, (i, orders, ls, _) in enumerate(self.modes):
            factor = math.factorial(i + sum(orders)) / math.factorial(i)
            value = mu[:, i + sum(orders)] * unit[:, 0] ** i
            for block, (j, harmonic) in enumerate(zip(orders, ls, strict=True), start=1):
                factor *= _fraction(j, harmonic, self.blocks[block][0]) / math.factorial(j)
                value = value * unit[:, block] ** j
            a[:, column] = math.sqrt(factor) * value
        return a, square


@lru_cache
def _walsh(k):
    """Sign patterns (2^k, k), characters over 2^k (2^k, 2^k) with all of S last, and their
    degrees."""
    bits = np.array(list(product((0, 1), repeat=k)))
    return 1.0 - 2 * bits, (-1.0) ** (bits @ bits.T) / 2**k, bits.sum(axis=1)


def _harmonics(n, degree):
    """Dimension of the harmonic polynomials of a degree in n variables."""
    if n == 1:
        return int(degree < 2)
    return math.comb(n + degree - 1, degree) - (math.comb(n + degree - 3, degree - 2) if degree > 1 else 0)


@lru_cache
def _fraction(j, harmonic, n):
    """f_jl of t^j = Σ_l f_jl C_l(t)/C_l(1), by projection with the weight (1 - t²)^((n-3)/2)."""
    if n == 1:
        return float((j - harmonic) % 2 == 0)
    t, weight = np.polynomial.legendre.leggauss(400)
    angle = 0.5 * math.pi * (t + 1)  # t = cos θ, weight sin^(n-2) θ
    cosine, weight = np.cos(angle), weight * np.sin(angle) ** (n - 2)
    if n == 2:
        c = np.cos(harmonic * angle)
    else:
        c = eval_gegenbauer(harmonic, 0.5 * n - 1, cosine) / eval_gegenbauer(harmonic, 0.5 * n - 1, 1.0)
    return float((weight * cosine**j) @ c / (weight @ c**2))


# Nodes


@dataclass(frozen=True)
class PriorLike:
    """v_a = scale_a χ(n_a), b/σ_b normal with its own scale."""

    sizes: np.ndarray
    scales: np.ndarray

    def sample(self, uniform):
        n = self.sizes
        chi = np.sqrt(2 * gammaincinv(0.5 * n, np.clip(uniform[:, : len(n)], 1e-300, 1 - 1e-16)))
        y = np.log(np.maximum(self.scales[: len(n)] * chi, 1e-200))
        if len(self.scales) == len(n):
            return y
        return np.column_stack([y, self.scales[-1] * ndtri(uniform[:, len(n)])])

    def log_density(self, y):
        n, count = self.sizes, len(self.sizes)
        x = y[:, :count] - np.log(self.scales[:count])
        out = (n * x - 0.5 * np.exp(2 * x) - (0.5 * n - 1) * math.log(2) - gammaln(0.5 * n)).sum(axis=1)
        if len(self.scales) > count:
            out += -0.5 * (y[:, count] / self.scales[-1]) ** 2 - math.log(_SQRT_2PI * self.scales[-1])
        return out


@dataclass(frozen=True)
class Student:
    """Multivariate Student t with 6 degrees of freedom."""

    mean: np.ndarray
    factor: np.ndarray
    freedom: float = 6.0

    def sample(self, uniform):
        normal = ndtri(np.clip(uniform[:, :-1], 1e-15, 1 - 1e-15))
        chi2 = 2 * gammaincinv(0.5 * self.freedom, np.clip(uniform[:, -1:], 1e-15, 1 - 1e-15))
        return self.mean + normal @ self.factor.T * np.sqrt(self.freedom / chi2)

    def log_density(self, y):
        n, nu = len(self.mean), self.freedom
        z = np.linalg.solve(self.factor, (y - self.mean).T)
        norm = gammaln(0.5 * (nu + n)) - gammaln(0.5 * nu) - 0.5 * n * math.log(nu * math.pi)
        norm -= np.log(np.abs(np.diag(self.factor))).sum()
        return norm - 0.5 * (nu + n) * np.log1p((z**2).sum(axis=0) / nu)


@dataclass
class Cloud:
    """Nodes with features; `base` is the log of prior/mixture without the precisions' factor."""

    problem: Problem
    y: np.ndarray
    base: np.ndarray
    a: np.ndarray = field(init=False)
    power: np.ndarray = field(init=False)
    squares: np.ndarray = field(init=False)

    def __post_init__(self):
        self.a, self.power, self.squares = self.problem.features(self.y)

    @classmethod
    def draw(cls, problem, components, seed):
        """Each component is drawn its power of two times, by a Sobol sequence of its own."""
        rngs = np.random.default_rng(seed).spawn(len(components))
        parts, dim = [], len(problem.blocks) + problem.network.bias + 1
        for (component, log2), rng in zip(components, rngs, strict=True):
            parts.append(component.sample(qmc.Sobol(dim, rng=rng).random_base2(log2)))
        y = np.concatenate(parts)
        total = sum(2**log2 for _, log2 in components)
        densities = [c.log_density(y) + math.log(2**log2 / total) for c, log2 in components]
        return cls(problem, y, _log_prior(problem, y) - logsumexp(densities, axis=0) - math.log(total))

    def log_prior(self, rho):
        """Log of the weight of every node under the prior with these precisions; they sum to about
        1."""
        return self.base + 0.5 * self.problem.group_sizes @ np.log(rho) - 0.5 * self.squares @ rho


def _log_prior(problem, y):
    sizes = np.array([float(n) for n, _ in problem.blocks])
    ones = np.ones(len(sizes) + problem.network.bias)
    # At unit precision, without its Gaussian factor.
    v = np.exp(2 * y[:, : len(sizes)]).sum(axis=1)
    return PriorLike(sizes, ones).log_density(y) + 0.5 * v


# Theories


class Theory:
    """What the nodes are adapted to: a state, the gain of the density over the prior, and solving
    on a cloud."""

    def __init__(self, problem):
        self.problem = problem
        network = problem.network
        self.kappa2, self.width, self.c = network.kappa**2, network.width, problem.coupling
        self.rho0 = np.full(2, problem.precision)
        if problem.ard:
            self.alpha0, self.beta0 = network.prior.shape, network.prior.rate_for(network.input_dim)

    def weights(self, state, cloud):
        """Normalised weights of the nodes under the theory's density, and log of its normaliser."""
        log = cloud.log_prior(state.rho) + self.gain(state, cloud.a, cloud.power)
        total = logsumexp(log)
        return np.exp(log - total), total

    def log_signal(self, state, y):
        """Log of the density in y times the contribution to m."""
        a, power, squares = self.problem.features(y)
        log = np.log(self.signal(state, a, power) + 1e-300)
        return log + _log_prior(self.problem, y) - 0.5 * squares @ state.rho + self.gain(state, a, power)

    def second_moments(self, state, cloud):
        """E_p[|w_g|²] ρ_g/n_g, with the prior's exact moments as control variate."""
        w = np.exp(cloud.log_prior(state.rho))
        gain = self.gain(state, cloud.a, cloud.power)
        gain = np.exp(gain - np.median(gain[np.argsort(-w)[: max(64, len(w) // 8)]]))
        out = np.ones(2)
        for g in (0, 1):
            if self.problem.group_sizes[g]:
                f = cloud.squares[:, g] * state.rho[g] / self.problem.group_sizes[g] - 1
                control, value = w * f, w * gain * f
                spread = control - control.mean()
                best = (spread @ value) / (spread @ spread)
                out[g] = 1 + (value.sum() - best * control.sum()) / (w * gain).sum()
        return out

    def precision_residual(self, state, cloud):
        """(α0 - ρβ0 - (N/2)(ρE - 1))/α0, 0 where ρ = (α0 + N/2)/(β0 + (N/2) E_p[w²])."""
        moments = self.second_moments(state, cloud)
        return (self.alpha0 - state.rho * self.beta0 - 0.5 * self.width * (moments - 1)) / self.alpha0


@dataclass(frozen=True)
class FieldState:
    """e = e_t - x in the target's block, and the precisions."""

    e: np.ndarray
    rho: np.ndarray


class MeanFieldOracle(Theory):
    """MF and MF-ARD: theory.md 3.2 and 3.3, ⟨f⟩ = √E[y²] x·ψ in the modes of the target's block.

        x = N^(1-2γ)/κ² E_p[(e·a) a/(2α)] (γ and σ_a in α),   e = e_t - x

    is the stationarity of ½|e|² - e_t·e + (N κ²/A²) log Z(e), log Z convex: one solution, by Newton
    with a line search. For parity of even degree it is the one scalar equation for m = x.
    """

    def __init__(self, network, teacher, num_data=None):
        order = 4 if isinstance(network.prior, ARD) else 6
        super().__init__(Problem(network, teacher, None, order=order, extra=order, target_only=True))
        self.unit = np.zeros(len(self.problem.modes))
        self.unit[self.problem.target] = 1.0
        self.scale = network.width ** (2 * network.gamma)
        self.drive = self.problem.amplitude**2 / (self.kappa2**2 * self.scale)

    def start(self):
        return FieldState(self.unit, self.rho0)

    def _alpha(self, power):
        return 0.5 / self.problem.network.readout_scale**2 + power / (2 * self.kappa2 * self.scale)

    def gain(self, state, a, power):
        alpha = self._alpha(power)
        return 0.25 * self.drive * (a @ state.e) ** 2 / alpha - 0.5 * np.log(alpha)

    def signal(self, state, a, power):
        """What a node adds to m, but for constants."""
        return (a @ state.e) ** 2 / self._alpha(power)

    def m(self, state):
        return 1 - state.e[self.problem.target]

    def field(self, state, cloud):
        """The state with e solved for at its precisions."""
        alpha, a = self._alpha(cloud.power), cloud.a
        front, unit, e = self.width / self.scale / self.kappa2, self.unit, state.e
        if len(e) == 1 and np.abs(a).max() < 1e-12:
            return replace(state, e=unit)

        def objective(e):
            return 0.5 * e @ e - unit @ e + front / self.drive * self.weights(replace(state, e=e), cloud)[1]

        for _ in range(60):
            p, log_z = self.weights(replace(state, e=e), cloud)
            pull = ((a @ e) / (2 * alpha))[:, None] * a
            mean = p @ pull
            gradient = e - unit + front * mean
            if np.abs(gradient).max() < 1e-10:
                break
            second = (a * (p / (2 * alpha))[:, None]).T @ a
            covariance = ((pull * p[:, None]).T @ pull - np.outer(mean, mean)) * self.drive
            step = -np.linalg.solve(np.eye(len(e)) + front * (second + covariance), gradient)
            value, size = 0.5 * e @ e - unit @ e + front / self.drive * log_z, 1.0
            while objective(e + size * step) > value + 1e-4 * size * (gradient @ step) + 1e-12 * abs(value):
                size *= 0.5
                if size < 1e-6:
                    break
            e = e + size * step
        return replace(state, e=e)

    def anchors(self, cloud):
        """States near which solutions may lie, for the nodes of the search."""
        states = [self.field(self.start(), cloud)]
        for factor in (5.0, 25.0, 125.0, 625.0) if self.problem.ard else ():
            states.append(self._along(states[-1], self.rho0[0] / factor, cloud)[0])
        return states

    def solutions(self, cloud, state):
        """(state, stable) of all solutions, by m; with ARD along ρ_S, at each with ρ_⊥ and m solved
        for."""
        if not self.problem.ard:
            return [(self.field(state, cloud), True)]
        grid = np.log(self.rho0[0]) + np.concatenate([[1.0, 0.4], np.linspace(0.1, -8, 28)])
        found, states, values = [], [], []
        state = replace(state, rho=self.rho0)
        for log_rho in grid:
            state, value = self._along(state, math.exp(log_rho), cloud)
            states.append(state)
            values.append(value)
        for left in range(len(grid) - 1):
            below, above = values[left], values[left + 1]
            if below * above <= 0:
                log_rho = (below * grid[left + 1] - above * grid[left]) / (below - above)
                try:
                    near = self.polish(self._along(states[left], math.exp(log_rho), cloud)[0], cloud)
                except RuntimeError:  # a sign change by noise, where no node represents the density
                    continue
                p, _ = self.weights(near, cloud)
                if 1 / (p**2).sum() > 100:
                    # The grid falls; T - ρ falls through 0 as ρ_S rises where the solution is
                    # stable.
                    found.append((near, below < 0))
        return sorted(found, key=lambda pair: self.m(pair[0]))

    def _along(self, state, rho_s, cloud):
        state = replace(state, rho=np.array([rho_s, state.rho[1]]))
        for _ in range(12):
            state = self.field(state, cloud)
            residual = self.precision_residual(state, cloud)
            step = residual[1] * self.alpha0 / (state.rho[1] * self.beta0)
            if abs(step) < 1e-4:
                break
            rest = state.rho[1] * math.exp(np.clip(step, -0.5, 0.5))
            state = replace(state, rho=np.array([rho_s, rest]))
        return state, residual[0]

    def polish(self, state, cloud):
        """The solution near a state on this cloud."""
        if not self.problem.ard:
            return self.field(state, cloud)
        memory = [state]

        def residual(log_rho):
            memory[0] = self.field(replace(memory[0], rho=np.exp(log_rho)), cloud)
            return self.precision_residual(memory[0], cloud)

        found = root(residual, np.log(state.rho), method="hybr", options={"xtol": 1e-8, "eps": 1e-5})
        if np.abs(found.fun).max() > 1e-5:
            raise RuntimeError(f"the precisions did not settle: {found.fun}")
        return self.field(replace(memory[0], rho=np.exp(found.x)), cloud)


@dataclass(frozen=True)
class KernelOracleState:
    """Λ in the modes, κ̃, the drive ε (B = √E[y²] ε·a), the precisions, and N c E_p[Σ - |a|²]."""

    kernel: np.ndarray
    ridge: float
    drive: np.ndarray
    rho: np.ndarray
    tail: float = 0.0


class AdaptiveKernelOracle(Theory):
    """AK and AK-ARD: theory.md 3.4, with matrices Λ where modes mix; R = (κ̃ + Λ)^-1, B = √E[y²]
    e_t·R a.

    The outer iteration is on Λ, κ̃ and ρ. Inside it the drive ε = R e_t keeps its direction, and
    its size ε_t = (1 - m)/κ̃ is solved for with the Λ_tt that it brings about itself,
    Sherman-Morrison giving ε_t = R_tt/(1 + (N c E_p[a_t²] - Λ_tt) R_tt), because the density reacts
    exponentially: a larger drive gives a larger Λ_tt, so that the root is unique.
    """

    def __init__(self, network, teacher, num_data=None, order=4, extra=4):
        super().__init__(Problem(network, teacher, num_data, order=order, extra=extra))
        self.unit = np.zeros(len(self.problem.modes))
        self.unit[self.problem.target] = 1.0

    def start(self):
        zero = np.zeros((len(self.unit),) * 2)
        tiny = self.kappa2 + (0.0 if self.problem.num_data is None else 0.3 / self.problem.num_data)
        return KernelOracleState(zero, tiny, self.unit / tiny, self.rho0)

    def gain(self, state, a, power):
        resolvent = np.linalg.inv(state.ridge * np.eye(len(self.unit)) + state.kernel)
        if self.problem.parity:
            square = a**2
            g = square @ np.diag(resolvent) + np.maximum(power - square.sum(axis=1), 0) / state.ridge
        else:
            g = ((a @ resolvent) * a).sum(axis=1) + np.maximum(power - (a**2).sum(axis=1), 0) / state.ridge
        b = self.problem.amplitude * (a @ state.drive)
        return -0.5 * np.log1p(self.c * g) + 0.5 * self.c * b**2 / (1 + self.c * g)

    def signal(self, state, a, power):
        return a[:, self.problem.target] ** 2

    def m(self, state):
        resolvent = np.linalg.inv(state.ridge * np.eye(len(self.unit)) + state.kernel)
        return float(1 - state.ridge * resolvent[self.problem.target, self.problem.target])

    def settle(self, state, cloud, tolerance=1e-7):
        """The solution that the iteration leads to from a state."""
        t, front, history = self.problem.target, self.width * self.c, []
        squares = cloud.a**2
        rest = np.maximum(cloud.power - squares.sum(axis=1), 0)
        for _ in range(600):
            old, state = state, self._driven(state, cloud)
            p, _ = self.weights(state, cloud)
            if self.problem.parity:
                kernel = np.diag(front * (p @ squares) / self.problem.copies)
            else:
                kernel = front * ((cloud.a * p[:, None]).T @ cloud.a) / self.problem.copies
                kernel = np.where(self.problem.mixes, kernel, 0.0)
            tail, rho = front * float(p @ rest), state.rho
            if self.problem.ard:
                # Half of a Newton step as if of ρE the prior's 1 did not depend on ρ and the rest
                # went as ρ: the plain step is nearly neutral at the prior.
                beyond = 0.5 * self.width * (self.second_moments(state, cloud) - 1)
                step = (self.alpha0 - rho * self.beta0 - beyond) / (rho * self.beta0 + np.abs(beyond))
                rho = rho * np.exp(np.clip(0.5 * step, -0.3, 0.3))
            ridge = self._ridge(kernel, tail)
            state = replace(state, kernel=kernel, tail=tail, ridge=ridge, rho=rho)
            change = np.abs(kernel - old.kernel).max() / max(np.abs(kernel).max(), 1e-300)
            target = abs(kernel[t, t] - old.kernel[t, t]) / max(kernel[t, t], 1e-300)
            change = max(
                change, target, np.abs(np.log(rho / old.rho)).max(), abs(math.log(ridge / old.ridge))
            )
            history.append(change)
            if change < tolerance:
                return state
        raise RuntimeError(f"the kernel did not settle: {history[-5:]}")

    def _driven(self, state, cloud):
        """The state with its drive solved for."""
        t = self.problem.target
        resolvent = np.linalg.inv(state.ridge * np.eye(len(self.unit)) + state.kernel)
        direction = resolvent[:, t] / resolvent[t, t]
        power = cloud.a[:, t] ** 2
        log = cloud.log_prior(state.rho) + self.gain(
            replace(state, drive=0 * direction), cloud.a, cloud.power
        )
        full = (
            self.gain(replace(state, drive=direction), cloud.a, cloud.power)
            + cloud.log_prior(state.rho)
            - log
        )

        def excess(log_drive):
            drive = math.exp(log_drive)
            p = log + drive**2 * full
            p = np.exp(p - p.max())
            brought = self.width * self.c * float(p @ power) / p.sum()
            rest = 1 + (brought - state.kernel[t, t]) * resolvent[t, t]
            # Where modes mix, a kernel with so small a Λ_tt may be none: the drive is too small.
            return log_drive - math.log(resolvent[t, t]) + math.log(max(rest, 1e-9))

        high = math.log(1 / state.ridge) + 1e-9
        guess = math.log(state.drive[t]) if state.drive[t] > 0 else high
        low = min(guess, high) - 0.05
        while excess(high) < 0:
            high += 0.5
        while excess(low) > 0:
            high, low = low, low - 2 * (high - low)
        return replace(state, drive=math.exp(brentq(excess, low, high, xtol=1e-10)) * direction)

    def _ridge(self, kernel, tail):
        size = self.problem.num_data
        if size is None:
            return self.kappa2
        values, vectors = np.linalg.eigh(kernel)
        copies = (vectors**2).T @ self.problem.copies
        high = self.kappa2 + (copies @ np.maximum(values, 0) + tail) / size

        def excess(x):
            ridge = math.exp(x)
            spread = copies @ (values / (values + ridge)) * ridge + tail
            return self.kappa2 + spread / size - ridge

        return math.exp(brentq(excess, math.log(self.kappa2) - 1e-9, math.log(high) + 1e-9, xtol=1e-12))

    def mse(self, state):
        """Test MSE of one draw."""
        resolvent = np.linalg.inv(state.ridge * np.eye(len(self.unit)) + state.kernel)
        share = state.kernel @ resolvent
        missing = self.problem.amplitude**2 * ((state.ridge * resolvent[:, self.problem.target]) ** 2).sum()
        size = self.problem.num_data
        if size is not None:
            missing *= size / (size - self.problem.copies @ np.diag(share @ share))
        return float(missing + state.ridge * self.problem.copies @ np.diag(share) + state.tail)

    def anchors(self, cloud):
        """As of the mean field."""
        return [s for s, _ in self.solutions(cloud, self.start())]

    def solutions(self, cloud, state):
        """(state, True) from the prior's kernel, and from the solution at a third of κ."""
        if np.abs(cloud.a[:, self.problem.target]).max() < 1e-12:
            return [(self.settle(self.start(), cloud), True)]
        found = [(self.settle(self.start(), cloud, 1e-6), True)]
        kappa2, near = self.kappa2, found[0][0]
        try:
            for factor in (1 / 9, 1 / 4, 1 / 2, 1.0):
                self.kappa2 = factor * kappa2
                near = self.settle(near, cloud, 1e-6 if factor == 1 else 1e-3)
        finally:
            self.kappa2 = kappa2
        if abs(self.m(near) - self.m(found[0][0])) > 1e-4:
            found.append((near, True))
        return found

    def polish(self, state, cloud):
        """The solution near a state on this cloud."""
        return self.settle(state, cloud)


class NNGPOracle(AdaptiveKernelOracle):
    """NNGP: the kernel of the prior, Λ = N c E_prior[a aᵀ]/copies, with its learning curve."""

    def __init__(self, network, teacher, num_data=None):
        super().__init__(network, teacher, num_data, order=6, extra=4)

    def gain(self, state, a, power):
        return np.zeros(len(power))

    def solutions(self, cloud, state):
        return [(self.settle(state, cloud), True)]


# Adaptation of the nodes, and the answer


@dataclass(frozen=True)
class Answer:
    """m ± standard error from independent randomisations; what the branch is, and how good its
    nodes are.

    Parameters
    ----------
    order_parameter, error
        Mean over the randomisations, and scatter/√R.
    mse
        Test MSE of a draw (adaptive kernel and NNGP).
    precisions
        ρ_S, ρ_⊥.
    effective_sample_size, effective_signal
        Of all randomisations together under p, and under p times the contribution to m.
    branches
        (m, stable) of every solution, as found on the nodes of the search.
    """

    order_parameter: float
    error: float
    mse: float | None
    precisions: tuple[float, float]
    effective_sample_size: float
    effective_signal: float
    branches: tuple[tuple[float, bool], ...]


def _broad(problem, shift):
    """A Student component, broad in the common size of the relevant weights, narrow in their
    ratios."""
    sizes = np.array([n for n, _ in problem.blocks], float)
    relevant = np.array([g == 0 and (problem.parity or n == 1) for n, g in problem.blocks])
    extra = int(problem.network.bias)
    mean = np.append(np.log(np.sqrt(sizes / problem.precision)) + shift * relevant, np.zeros(extra))
    covariance = np.diag(np.append(np.where(relevant, 0.35, 0.4) ** 2, np.full(extra, 2.5**2)))
    flag = np.append(relevant, np.zeros(extra)).astype(float)
    return Student(mean, np.linalg.cholesky(covariance + np.outer(flag, flag)))


def _fits(y, weights, count, rng):
    """Student components from a Gaussian mixture fitted to a resample (EM from points far from each
    other)."""
    effective = 1 / (weights**2).sum()
    if effective < 4 * y.shape[1]:
        return []
    x = y[rng.choice(len(y), 6000, p=weights)]
    ridge = 1e-4 * np.eye(y.shape[1])
    means = x[rng.choice(len(x), count)]
    factors = np.array([np.linalg.cholesky(np.cov(x.T) + ridge)] * count)
    shares = np.full(count, 1 / count)
    for _ in range(30):
        log = np.empty((len(x), count))
        for c in range(count):
            z = np.linalg.solve(factors[c], (x - means[c]).T)
            log[:, c] = math.log(shares[c]) - 0.5 * (z**2).sum(axis=0) - np.log(np.diag(factors[c])).sum()
        r = np.exp(log - logsumexp(log, axis=1, keepdims=True))
        total = r.sum(axis=0) + 1e-9
        shares = np.maximum(total / total.sum(), 1e-6)
        means = (r.T @ x) / total[:, None]
        for c in range(count):
            centred = x - means[c]
            if total[c] > 3 * y.shape[1]:
                factors[c] = np.linalg.cholesky((centred * r[:, c : c + 1]).T @ centred / total[c] + ridge)
    return [Student(m, 1.1 * f) for m, f, s in zip(means, factors, shares, strict=True) if s > 0.02]


def _at_maximum(theory, state, y):
    """Student component at the maximum near y of p times the contribution to m, with its inverse
    Hessian."""
    n, h = len(y), 1e-4

    def value_and_gradient(x):
        points = x + h * np.concatenate([np.zeros((1, n)), np.eye(n), -np.eye(n)])
        v = theory.log_signal(state, points)
        return -v[0], -(v[1 : n + 1] - v[n + 1 :]) / (2 * h)

    near = [(x - 6, x + 6) for x in y]
    settings = {"jac": True, "method": "L-BFGS-B", "bounds": near, "options": {"maxiter": 60}}
    found = minimize(value_and_gradient, y, **settings)
    hessian = np.empty((n, n))
    for i in range(n):
        step = 1e-3 * np.eye(n)[i]
        hessian[i] = (value_and_gradient(found.x + step)[1] - value_and_gradient(found.x - step)[1]) / 2e-3
    values, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T))
    spread = 1.2 / np.sqrt(np.clip(values, 1.0, 1e6))
    return Student(found.x, np.linalg.cholesky((vectors * spread**2) @ vectors.T))


def _components(problem, state, size, fitted=()):
    """The mixture: priors of several scales, the broad component, and what has been fitted."""
    sizes = np.array([float(n) for n, _ in problem.blocks])
    groups = np.array([g for _, g in problem.blocks])

    def prior(rho, factor=1.0, spread=1.0):
        bias = [spread] * int(problem.network.bias)
        return PriorLike(sizes, np.append(factor / np.sqrt(np.asarray(rho)[groups]), bias))

    out = [
        (prior(state.rho), size),
        (prior(state.rho, 0.6), size - 3),
        (prior(state.rho, 1.6, 2.5), size - 3),
    ]
    if fitted:
        out.append((_broad(problem, 0.5), size - 3))
        out += [(component, size - 2) for component in fitted]
    else:
        out += [(_broad(problem, shift), size) for shift in ((0.3, 1.3, 2.5) if problem.ard else (0.3, 1.0))]
    return out


def _aligned_with_bias(problem, y):
    """Places where aligned neurons with a bias may overlap with a parity, of the size of the neuron y.

    With all relevant weights a the overlap is a k-th difference of the activation, of steps 2a: for
    ReLU it is largest at its kinks, b = -(k - 2) a, -(k - 4) a, … (k - 2) a. Each has a maximum of
    the density of its own, which may lie six σ_b out, where no node drawn from the prior finds it.
    """
    if not problem.parity:
        return []
    k, out = problem.k, []
    for size in math.exp(y[:k].mean()) * np.array([1.0, 0.5]):
        for count in range(-(k - 2), k - 1, 2):
            out.append(np.append(y[:-1], count * size / problem.network.bias_scale))
            out[-1][:k] = math.log(size)
    return out


def _adapted(theory, state, cloud, rng):
    """Components fitted to the density of a state, and to what it contributes to m."""
    p, _ = theory.weights(state, cloud)
    signal, fitted = p * theory.signal(state, cloud.a, cloud.power), []
    if signal.sum() > 0:
        signal /= signal.sum()
        best = cloud.y[np.argmax(signal)]
        starts = [best]
        if theory.problem.network.bias:  # aligned neurons may have biases far out in the prior's tails
            starts += [np.append(best[:-1], b) for b in (-4.0, 4.0)]
            starts += _aligned_with_bias(theory.problem, best)
        for begin in starts:
            found = _at_maximum(theory, state, begin)
            if all(np.abs(found.mean - other.mean).max() > 0.3 for other in fitted):
                fitted.append(found)
        fitted += _fits(cloud.y, signal, 8 if theory.problem.network.bias else 4, rng)
    return fitted + _fits(cloud.y, p, 2, rng)


def answer(theory, start="prior", size=11, rounds=3, seed=0):
    """Solve a theory with adapted nodes; `size` is log2 of the nodes of the largest component of a
    randomisation."""
    problem, state, rng = theory.problem, theory.start(), np.random.default_rng(seed)
    fitted, seen = [], ()
    for step in range(rounds + 1):
        cloud = Cloud.draw(problem, _components(problem, state, 12, fitted), seed + 1000 + step)
        if step == 0:
            states = theory.anchors(cloud)
        elif step == 1:
            found = theory.solutions(cloud, state)
            stable = [s for s, good in found if good] or [s for s, _ in found]
            if not stable:
                raise RuntimeError("no solution found.")
            state = stable[0] if start == "prior" else stable[-1]
            seen, states = tuple((float(theory.m(s)), bool(good)) for s, good in found), [state]
        else:
            state = theory.polish(state, cloud)
            states = [state]
        fitted = [c for s in states for c in _adapted(theory, s, cloud, rng)]
        if step == 0 and problem.ard:
            fitted += [_components(problem, s, 0)[0][0] for s in states[1:]]
    components = _components(problem, state, size, fitted)
    values, mses, rhos, effective, effective_signal = [], [], [], 0.0, 0.0
    for randomisation in range(RANDOMISATIONS):
        cloud = Cloud.draw(problem, components, [seed, randomisation])
        solved = theory.polish(state, cloud)
        values.append(theory.m(solved))
        rhos.append(solved.rho)
        if isinstance(theory, AdaptiveKernelOracle):
            mses.append(theory.mse(solved))
        p, _ = theory.weights(solved, cloud)
        effective += 1 / (p**2).sum()
        signal = p * theory.signal(solved, cloud.a, cloud.power)
        effective_signal += signal.sum() ** 2 / max((signal**2).sum(), 1e-300)
    return Answer(
        float(np.mean(values)),
        float(np.std(values, ddof=1) / math.sqrt(len(values))),
        float(np.mean(mses)) if mses else None,
        tuple(np.mean(rhos, axis=0).tolist()),
        float(effective),
        float(effective_signal),
        seen,
    )


# Checks of the ingredients


def exact_parity_overlap(w, relevant):
    """J of relu for x uniform on {±1}^d and even k: -((-1)^(k/2)/π) ∫ Π_S sin(w_j t) Π_rest cos(w_j
    t) t^-2 dt."""
    w, relevant = np.asarray(w, float), list(relevant)
    rest = np.delete(w, relevant)

    def integrand(t):
        return np.prod(np.sin(w[relevant] * t)) * np.prod(np.cos(rest * t)) / t**2

    edges = np.linspace(0, 400 / np.linalg.norm(w), 401)
    total = sum(quad(integrand, a, b, limit=200)[0] for a, b in pairwise(edges))
    return -((-1) ** (len(relevant) // 2)) / math.pi * total


def sampled_kernel(activation, x, variance, bias_variance=0.0, log2=14, seed=0):
    """E_w[φ(w·x + b) φ(w·x' + b)] for rows of x, w ~ Normal(0, variance), and its standard error,
    by Sobol points."""
    estimates = []
    for randomisation in range(RANDOMISATIONS):
        rng = np.random.default_rng([seed, randomisation])
        normal = ndtri(qmc.Sobol(x.shape[1] + 1, rng=rng).random_base2(log2))
        u = math.sqrt(variance) * normal[:, :-1] @ x.T + math.sqrt(bias_variance) * normal[:, -1:]
        phi = {"relu": np.maximum(u, 0), "tanh": np.tanh(u), "erf": erf(u), "identity": u}[activation]
        estimates.append(phi.T @ phi / len(phi))
    return np.mean(estimates, axis=0), np.std(estimates, axis=0, ddof=1) / math.sqrt(RANDOMISATIONS)
