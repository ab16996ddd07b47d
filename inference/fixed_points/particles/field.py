"""The equation for the field v on a fixed set of particles, solved by Newton's method.

    κ²P v + N c E_p[h B φ] = y,      B = φ·v

For MF at given ρ the left side is the gradient of ½ κ²P |v|² + N log E_prior[exp(E)], which is
convex in v: the solution is unique. For AK it is solved at given G.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse.linalg import LinearOperator, gmres

from inference.fixed_points.particles.equations import Field, ParticleEquations
from inference.fixed_points.particles.kernel import inverse

_NEWTON_STEPS = 12
_HALVINGS = 8


@dataclass(frozen=True, eq=False)
class FieldEquation:
    """With a kernel that is known better than from the particles alone.

    K ≈ matrix + N c Σ_i (b_i - known_i) φ_i φ_iᵀ, where b = p h are the particles' weights of the
    kernel and `known` those with which they estimate the same kernel as `matrix`.
    """

    equations: ParticleEquations
    matrix: np.ndarray  # (P, P)
    known: np.ndarray  # (n,)

    @classmethod
    def with_control(cls, equations: ParticleEquations, share: float) -> FieldEquation:
        """Known is `share` of the kernel of Gaussian neurons."""
        num_data = equations.problem.data.num_data
        matrix = share * equations.gaussian if share else np.zeros((num_data, num_data))
        return cls(equations, matrix, share * equations.prior_weights)

    def follow(self, p: np.ndarray, field: Field, tolerance: float, drift: float) -> tuple[Field, float]:
        """One update: Ā from `matrix`, G from Ā, v at this G, as far as particles can follow.

        p(w) answers G exponentially: G of an aligned neuron is about 1/c over the number of those
        that carry the signal, so that a full step of Ā⁻¹ would empty the mode and then overfill it.
        G is linear in Ā⁻¹: its step is halved until Σ_i p_i²/p_i(old) is at most half of `drift`;
        that of v until it is at most `drift`. ``LinAlgError`` where κ²P I + matrix is not positive
        definite.
        """
        equations = self.equations
        inverted = inverse(self.matrix, equations.problem.ridge).astype(np.float32)
        if equations.problem.adaptive:
            equations.use(Field(field.residual, equations.precisions, inverted))
            after = 1 / equations.screened
            equations.use(field)
            before, share = 1 / equations.screened, 1.0
            for _ in range(_HALVINGS):
                equations.screened = 1 / (before + share * (after - before))
                if divergence(equations.weights(field.residual), p) <= 0.5 * drift:
                    break
                share *= 0.5
            inverted = field.inverse + np.float32(share) * (inverted - field.inverse)
        field = Field(field.residual, equations.precisions, inverted)
        residual, mismatch = self.solve(field, tolerance, p, drift)
        return Field(residual, equations.precisions, inverted), mismatch

    def solve(
        self, field: Field, tolerance: float, origin: np.ndarray | None = None, drift: float = np.inf
    ) -> tuple[np.ndarray, float]:
        """v at fixed G by Newton's method with a line search, and the rms of the mismatch.

        `drift` bounds Σ_i p_i²/p_i(origin): particles represent no density that is too far away.
        """
        residual = field.residual
        value, start = self._mismatch(residual), self.equations.weights(residual)
        origin = start if origin is None else origin
        drift = max(drift, 1.1 * divergence(start, origin))
        for _ in range(_NEWTON_STEPS):
            norm = _rms(value)
            if norm <= tolerance:
                break
            step = self._step(residual, value, field.inverse)
            for halving in range(_HALVINGS):
                trial = residual + 0.5**halving * step
                new = self._mismatch(trial)
                falls = _rms(new) < norm * (1 - 0.1 * 0.5**halving)
                if falls and divergence(self.equations.weights(trial), origin) <= drift:
                    break
            else:
                break
            residual, value = trial, new
        return residual, _rms(value)

    def _mismatch(self, residual: np.ndarray) -> np.ndarray:
        """Left minus right side of the equation, in units of the targets' size."""
        equations, problem = self.equations, self.equations.problem
        p, overlap = equations.density(residual)
        mean = equations.project((equations.kernel_weights(p) - self.known) * overlap)
        mean = mean + self.matrix @ residual
        return (problem.ridge * residual + mean - problem.data.y) / problem.size

    def _step(self, residual: np.ndarray, value: np.ndarray, inverted: np.ndarray) -> np.ndarray:
        """-J⁻¹ mismatch by GMRES, preconditioned with Ā⁻¹.

        J through δp_i = p_i (δE_i - E_p[δE]) and δE = c h B δB.
        """
        equations, problem = self.equations, self.equations.problem
        p, overlap = equations.density(residual)
        pull = problem.coupling * overlap * equations.screened
        held = equations.kernel_weights(p) - self.known
        target = 1.0 if problem.adaptive else equations.screened

        def apply(direction):
            moved = (equations.hidden @ direction.astype(np.float32)).astype(float)
            change = pull * moved
            change = p * (change - p @ change)
            out = problem.ridge * direction + equations.project(held * moved + target * overlap * change)
            return out + self.matrix @ direction

        def precondition(vector):
            return (inverted @ vector.astype(np.float32)).astype(float)

        shape = (len(residual), len(residual))
        operator, guess = LinearOperator(shape, apply), LinearOperator(shape, precondition)
        return gmres(operator, -problem.size * value, rtol=1e-2, restart=25, maxiter=2, M=guess)[0]


def divergence(p: np.ndarray, origin: np.ndarray) -> float:
    """Σ_i p_i²/origin_i, 1 where equal; its inverse is the share of particles that count."""
    return float(np.sum(p**2 / np.maximum(origin, 1e-300)))


def _rms(value: np.ndarray) -> float:
    return float(np.sqrt(np.mean(value**2)))
