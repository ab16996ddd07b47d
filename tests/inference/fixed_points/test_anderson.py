"""Anderson's iteration on linear maps, where Walker and Ni (2011) tie it to GMRES."""

import numpy as np
import pytest

from inference.fixed_points.particles.anderson import Anderson


def solve(matrix, shift, anderson, count, weights=1.0):
    x = np.zeros(len(shift))
    for _ in range(count):
        x = anderson.step(x, matrix @ x + shift, weights)
    return x


@pytest.mark.parametrize("seed", range(5))
def test_a_linear_map_of_n_unknowns_is_solved_in_n_steps_and_two(seed):
    """As GMRES would, also where the plain iteration diverges."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    matrix = basis @ np.diag([-4.0, -0.5, 0.3, 0.9]) @ basis.T
    shift = rng.normal(size=4)
    anderson = Anderson()
    x = solve(matrix, shift, anderson, 6)
    np.testing.assert_allclose(x, np.linalg.solve(np.eye(4) - matrix, shift), rtol=1e-4, atol=1e-4)


def test_what_is_known_of_the_response_serves_a_part():
    """Decoupled unknowns: the part that keeps its secants is solved at once, where a fresh start is
    not."""
    slopes, shift = np.array([-3.0, -3.0, 0.5]), np.array([1.0, 2.0, 1.0])
    anderson = Anderson()
    solve(np.diag(slopes), shift, anderson, 5)
    part, other = np.array([True, False, True]), np.array([0.7, 1.3])
    exact = other / (1 - slopes[part])
    known, fresh = anderson.take(part), Anderson()
    start = np.array([0.1, 0.9])
    after = [a.step(start, slopes[part] * start + other) for a in (known, fresh)]
    assert np.abs(after[0] - exact).max() < 1e-4
    assert np.abs(after[1] - exact).max() > 0.05


def test_growth_drops_the_history_and_halves_the_step():
    anderson = Anderson(relaxation=1.0)
    x = anderson.step(np.array([0.0]), np.array([1.0]))
    assert x == 1.0
    x = anderson.step(x, x + 10.0)
    assert x == 1.0 + 0.5 * 10.0
