"""Mutants: single wrong lines of the package, each of which the default tests must notice.

Run from the repository, all of them or those of some files or tests::

    python tests/mutants.py [PART OF A PATH ...]

Every mutant replaces one piece of text, in a temporary copy of the tree, and runs the tests that are
nearest to it; it is killed if they fail. The exit status is 1 if a mutant survives, or if its text is
no longer there (then write down the line that took its place), or if tests fail without a mutant.
"""

import multiprocessing
import os
import shlex
import shutil
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COPIED = ("models", "inference", "analysis", "tests", "benchmarks", "docs", "pyproject.toml")
# What all tests import; a fork of a process that has done so starts in no time.
PRELOADED = (
    "arviz",
    "matplotlib.pyplot",
    "numpyro",
    "optax",
    "pandas",
    "scipy.stats",
)
TIMEOUT = 900  # seconds; a mutant that runs into it is killed
SHIFT = 100  # of the exit statuses

KERNELS = "inference/kernels"
POINTS = "inference/fixed_points"
RUNS = "inference/runs"
GUIDES = "inference/variational"
PRIORS = "models/priors"
CHECKS = "analysis/diagnostics"

# Tests, in the words of pytest's command line: (file, text, what replaces it), ...
MUTANTS = {
    # --- update rules ---
    "tests/inference/kernels/test_sgld.py -k preconditioner_scales": [
        (f"{KERNELS}/langevin.py", "jnp.sqrt(2 * step * scale) * noise", "jnp.sqrt(step * scale) * noise"),
        (f"{KERNELS}/langevin.py", "return z - step * scale * grad", "return z - step * grad"),
    ],
    "tests/inference/kernels/test_sgld.py -k 'schedule_follows or minibatches_are_fresh or prior_variance'": [
        (
            f"{KERNELS}/langevin.py",
            "else self._step_size_at(state.i)",
            "else self._step_size_at(0)",
        ),
        (f"{KERNELS}/potential.py", "(sub,), replace=False)", "(sub,), replace=True)"),
        (f"{KERNELS}/preconditioning.py", "jnp.var(value, axis=0).mean()", "jnp.std(value, axis=0).mean()"),
    ],
    "tests/inference/kernels/test_kernels.py -k averaged_noise_shares": [
        (f"{KERNELS}/sgld.py", "(last + fresh) / 2", "fresh"),
        (f"{KERNELS}/sgld.py", '{"noise": fresh} if', '{"noise": noise} if'),
    ],
    "tests/inference/kernels/test_kernels.py -k moving_average": [
        (f"{KERNELS}/psgld.py", "1 / (self._floor + jnp.sqrt(v))", "1 / jnp.sqrt(self._floor + v)"),
        (f"{KERNELS}/psgld.py", "(1 - self._decay) * grad**2", "(1 - self._decay) * jnp.abs(grad)"),
    ],
    "tests/inference/kernels/test_kernels.py -k frozen": [
        (f"{KERNELS}/psgld.py", "adapting = state.i < self._num_warmup", "adapting = state.i >= 0"),
    ],
    "tests/inference/kernels/test_kernels.py -k 'stationary_law and Underdamped'": [
        (f"{KERNELS}/underdamped.py", "v - step / 2 * jnp.sqrt(scale) * grad", "v - step / 2 * scale * grad"),
        (f"{KERNELS}/underdamped.py", "z + step / 2 * jnp.sqrt(scale) * v", "z + step / 2 * v"),
        (f"{KERNELS}/underdamped.py", "-jnp.expm1(-2 * self._friction", "-jnp.expm1(-self._friction"),
        (
            f"{KERNELS}/underdamped.py",
            "(kick, velocity, grad, scale)",
            "(kick, velocity, state.z_grad, scale)",
        ),
    ],
    "tests/inference/kernels/test_kernels.py -k 'stationary_law and SGHMC'": [
        (f"{KERNELS}/underdamped.py", "jnp.sqrt(2 * friction) * noise", "jnp.sqrt(friction) * noise"),
    ],
    "tests/inference/kernels/test_kernels.py -k acceptance_is": [
        (f"{KERNELS}/mala.py", "* (old_grad + grad)", "* (old_grad - grad)"),
        (f"{KERNELS}/mala.py", "(2 * noise - delta)", "(noise - delta)"),
    ],
    "tests/inference/kernels/test_kernels.py -k mala_adapts": [
        (f"{KERNELS}/mala.py", "self._target - accept_prob", "accept_prob - self._target"),
    ],
    "tests/inference/kernels/test_kernels.py -k mala_rejects": [
        (f"{KERNELS}/mala.py", "jnp.isnan(log_accept), 0.0", "jnp.isnan(log_accept), 1.0"),
    ],
    "tests/inference/kernels/test_kernels.py -k 'a_diverging_chain and PSGLD'": [
        (f"{KERNELS}/langevin.py", '["z_grad"]) & ~state.diverging', '["z_grad"])'),
        (f"{KERNELS}/langevin.py", "i=stay.i + keep", "i=stay.i + 1"),
    ],
    "tests/inference/kernels/test_accumulation.py": [
        (f"{KERNELS}/potential.py", "v * (block / size)", "v"),
        (f"{KERNELS}/potential.py", "begin + jnp.arange(block)", "jnp.arange(block)"),
    ],
    "tests/inference/kernels/test_tempering.py -k a_power": [
        (f"{KERNELS}/tempered.py", "self.power * msg", "msg"),
    ],
    "tests/inference/kernels/test_tempering.py -k book_keeping": [
        (f"{KERNELS}/tempering.py", "heading = state.heading[source]", "heading = state.heading"),
        (f"{KERNELS}/tempering.py", "moved[1:] - moved[:-1]", "moved[:-1] - moved[1:]"),
    ],
    "tests/inference/kernels/test_tempering.py -k every_replica": [
        (f"{KERNELS}/tempering.py", "ratios**-2.0", "ratios**-1.0"),
    ],
    # --- guides and their bound ---
    "tests/inference/variational/test_guides.py -k 'conjugate or local_latent'": [
        (
            f"{GUIDES}/elbo.py",
            "0.5 * layer.width * layer.input_dim * gap",
            "layer.width * layer.input_dim * gap",
        ),
        (f"{GUIDES}/elbo.py", "layer.prior.shape + layer.width / 2", "layer.prior.shape + layer.width"),
        (f"{GUIDES}/guides.py", "(weights.mean**2 + weights.variance)", "(weights.mean**2)"),
        (
            f"{GUIDES}/guides.py",
            "layer.prior.shape + layer.width / 2, rate",
            "layer.prior.shape + layer.width, rate",
        ),
    ],
    "tests/inference/variational/test_fit.py -k 'log_densities or restarts_are'": [
        (f"{GUIDES}/restarts.py", "logsumexp(log_weights + log_q)", "logsumexp(log_q)"),
        (f"{GUIDES}/restarts.py", "total - loss", "total + loss"),
        (f"{GUIDES}/restarts.py", "ddof=1) / len(values) ** 0.5", "ddof=1) / len(values)"),
    ],
    # --- theories ---
    "tests/inference/fixed_points/test_neuron.py -k 'conditional or radial or jacobian'": [
        (f"{POINTS}/neuron/density.py", "0.5 * xp.log(screened)", "xp.log(screened)"),
        (
            f"{POINTS}/neuron/density.py",
            "coupling * overlap_squared * screened",
            "coupling * overlap_squared",
        ),
        (f"{POINTS}/neuron/density.py", "driven += 0.5", "driven += 1.0"),
        (f"{POINTS}/neuron/averages.py", "0.5 * density.coupling, -0.5])", "density.coupling, -0.5])"),
        (f"{POINTS}/neuron/averages.py", "fill(0, -coupling * by_e", "fill(0, -coupling * by_h"),
        (f"{POINTS}/branches/equations.py", "slope[:, :n] -= np.eye(n)", "slope[:, :n] += np.eye(n)"),
    ],
    "tests/inference/fixed_points/test_neuron.py -k 'divided_out or draws_have'": [
        (f"{POINTS}/neuron/averages.py", "means[-1][0, -2:] /= exactness", "exactness = exactness"),
        (f"{POINTS}/neuron/density.py", "0.5 * self.dimension * log_v", "self.dimension * log_v"),
    ],
    "tests/inference/fixed_points/test_populations.py": [
        (f"{POINTS}/populations/hermite.py", "out[n] = (-1) ** n * current", "out[n] = current"),
        (f"{POINTS}/populations/hermite.py", "return 1 - 8 * owens_t", "return 1 - 4 * owens_t"),
        (f"{POINTS}/populations/hermite.py", "(-1) ** (n - 1) * slope**n", "slope**n"),
        (f"{POINTS}/populations/single_index.py", "- degree * math.log(2)", "- math.log(2)"),
        (f"{POINTS}/populations/parity.py", "power = 0.5 * (", "power = ("),
        (
            f"{POINTS}/populations/single_index.py",
            "math.factorial(sum(mode.degrees))",
            "math.factorial(max(mode.degrees))",
        ),
    ],
    "tests/inference/fixed_points/test_ard.py -k 'low_noise or two_stable'": [
        (
            f"{POINTS}/precisions.py",
            "self.rate + width / 2 * second_moment",
            "self.rate + width * second_moment",
        ),
        (f"{POINTS}/precisions.py", "self.shape + width / 2 * count", "self.shape + width * count"),
        (f"{POINTS}/branches/solve.py", ".real.max() < 0)", ".real.max() > 0)"),
        (f"{POINTS}/branches/solve.py", '"aligned": stable[-1]}', '"aligned": stable[0]}'),
        (
            f"{POINTS}/mean_field.py",
            "square * (x**2).sum(axis=-1) / problem.width",
            "square * (x**2).sum(axis=-1)",
        ),
    ],
    "tests/inference/fixed_points/test_nngp.py": [
        (f"{POINTS}/adaptive_kernel.py", "share = 1 - freedom / num_data", "share = 1 + freedom / num_data"),
        (f"{POINTS}/adaptive_kernel.py", "+ np.exp(theta[..., kernel.num_pairs])", ""),
        (
            f"{POINTS}/branches/equations.py",
            "equations.excess(theta, log_ridge) / num_data",
            "equations.excess(theta, log_ridge)",
        ),
    ],
    "tests/inference/fixed_points/test_regression.py": [
        (f"{POINTS}/regression/covariances.py", "(np.pi - angle) * cosine", "angle * cosine"),
        (f"{POINTS}/regression/covariances.py", "(1 + 2 * first) * (1", "(1 + first) * (1"),
        (f"{POINTS}/regression/covariances.py", "total += 2 * weight", "total += weight"),
        (
            f"{POINTS}/regression/covariances.py",
            "widths[-1] ** (-2 * network.gamma)",
            "widths[-1] ** (-network.gamma)",
        ),
        (f"{POINTS}/regression/gaussian_process.py", "variance - (half**2)", "variance + (half**2)"),
        (f"{POINTS}/regression/gaussian_process.py", "2 * ridge - ridge**2", "ridge - ridge**2"),
        (f"{POINTS}/regression/gaussian_process.py", "coefficients / inverse_diagonal,", "coefficients,"),
    ],
    "tests/inference/fixed_points/test_dataset.py -k 'energy_and or flip or umbrella or resampling or each_move'": [
        (f"{POINTS}/particles/moves.py", "(1 + c * overlap**2 * h)", "(1 - c * overlap**2 * h)"),
        (
            f"{POINTS}/particles/moves.py",
            "categorical(key_choice, 2 * jnp.log",
            "categorical(key_choice, jnp.log",
        ),
        (f"{POINTS}/particles/moves.py", "- state.log_density + gain)", "- state.log_density)"),
        (f"{POINTS}/particles/moves.py", "momentum**2 - end**2", "end**2 - momentum**2"),
        (f"{POINTS}/particles/moves.py", "(proposal.energy < floor)", "False"),
        (
            f"{POINTS}/particles/umbrella.py",
            "np.log(0.5 / (top - bottom)) - log_density",
            "np.log(0.5) - log_density",
        ),
        (
            f"{POINTS}/particles/umbrella.py",
            "np.arange(size)) / size * cumulative[-1]",
            "np.arange(size)) / size",
        ),
    ],
    "tests/inference/fixed_points/test_anderson.py": [
        (f"{POINTS}/particles/anderson.py", "(moved + self.relaxation * changed)", "moved"),
    ],
    "tests/models/test_tabular.py -k 'known_noise or criteria'": [
        (f"{POINTS}/regression/evidence.py", "np.exp(2 * log_noise)", "np.exp(log_noise)"),
        (f"{POINTS}/regression/evidence.py", "vectors @ (u / total)", "vectors @ u"),
    ],
    # --- runs, starts, files ---
    "tests/analysis/test_files.py -k 'failed_write or interrupted_write'": [
        (f"{RUNS}/atomic.py", "        write(temporary)", "        write(path)"),
        (f"{RUNS}/atomic.py", "temporary.unlink(missing_ok=True)", "pass"),
    ],
    "tests/inference/runs/test_checkpoint.py -k 'told_apart or values_are_described or edited'": [
        (f"{RUNS}/fingerprint.py", "**names.nonlocals, **defaults", "**defaults"),
        (f"{RUNS}/fingerprint.py", "np.ascontiguousarray(array).tobytes()", "b''"),
        (f"{RUNS}/fingerprint.py", "return source + (str", "return '' + (str"),
    ],
    "inference/runs/fingerprint.py": [
        (f"{RUNS}/fingerprint.py", "elif one != other:", "elif one is None:"),
    ],
    "tests/inference/runs/test_checkpoint.py -k 'comes_back or pieces_are or damaged_or_foreign'": [
        (f"{RUNS}/checkpoint.py", ".view(dtype) for", ".astype(dtype) for"),
        (f"{RUNS}/checkpoint.py", 'if plain.pop("format") != _FORMAT:', 'if plain.pop("format") is None:'),
        (f"{RUNS}/draw_files.py", "slice(begin, begin + count)", "slice(0, count)"),
    ],
    "tests/inference/runs/test_checkpoint.py -k 'another_run_is_not_resumed and seed'": [
        (
            f"{RUNS}/run_folder.py",
            "            self._require(fingerprint, json",
            "            (fingerprint, json",
        ),
    ],
    "tests/inference/runs/test_sampling.py -k 'start or aligned or contents or observables or readouts'": [
        ("inference/starts.py", "norm = 1.5 *", "norm = 1.0 *"),
        ("inference/starts.py", "aligned = 0.1 * w", "aligned = 0.2 * w"),
        ("inference/starts.py", "num_chains - num_chains // 2", "num_chains // 2"),
        ("models/readouts.py", "phi @ phi.T / ridge", "phi @ phi.T"),
        ("models/readouts.py", "lower=True, trans=1", "lower=True, trans=0"),
    ],
    "tests/inference/runs/test_step_halving.py -k 'same_time or eigenvalue or stability'": [
        (f"{RUNS}/step_halving.py", "2**order / (2**order - 1)", "1 / (2**order - 1)"),
        (
            f"{KERNELS}/step_size.py",
            "product = weighted(jax.jvp(gradient, (z,), (weighted(direction),))[1])",
            "product = jax.jvp(gradient, (z,), (weighted(direction),))[1]",
        ),
        (f"{KERNELS}/underdamped.py", "return 2 / jnp.sqrt(curvature)", "return 2 / curvature"),
    ],
    # --- networks, priors, data ---
    "tests/models/test_collapsed.py -k 'not nuts and not sample'": [
        ("models/readouts.py", "2 * jnp.log(jnp.diagonal(factor))", "jnp.log(jnp.diagonal(factor))"),
        ("models/readouts.py", "residual / tau) - solved", "residual / tau)"),
    ],
    "tests/models/test_priors.py -k 'log_density_against and not centered'": [
        (f"{PRIORS}/isotropic.py", "return input_dim / self.scale**2", "return input_dim / self.scale"),
        (f"{PRIORS}/horseshoe.py", "jnp.hypot(tau * local, c)", "jnp.hypot(local, c)"),
        (
            f"{PRIORS}/horseshoe.py",
            "half * self.slab_scale(input_dim) ** 2",
            "half * self.slab_scale(input_dim)",
        ),
        (f"{PRIORS}/spike_and_slab.py", "(1 - self.inclusion) * self.ratio**2", "self.ratio**2"),
        (f"{PRIORS}/dirichlet.py", "self.scale**2 * base", "self.scale * base"),
        (f"{PRIORS}/learned_scale.py", "dist.HalfNormal(self.scale)", "dist.HalfNormal(1.0)"),
    ],
    "tests/models/test_priors.py -k 'reproduce or bayes_rule or known_factor'": [
        (f"{PRIORS}/spike_and_slab.py", "(slab - spike) * jnp.asarray(rho)", "slab * jnp.asarray(rho)"),
        (f"{PRIORS}/base.py", '{"w_base": w / scale * self', '{"w_base": w * self'),
        (f"{PRIORS}/ard.py", "sums, w.shape[-2] * member.sum(axis=0)", "sums, w.shape[-2]"),
    ],
    "models/priors/student_t.py": [
        (f"{PRIORS}/student_t.py", "self.df / (self.df - 2)", "(self.df - 2) / self.df"),
    ],
    "tests/models/test_models.py": [
        (
            "models/network.py",
            "scale = self.widths[-1] ** -self.gamma",
            "scale = self.widths[-1] ** -0.5",
        ),
        (
            "models/network.py",
            "self.kappa * num_data**0.5\n            numpyro",
            "self.kappa\n            numpyro",
        ),
        ("models/teachers.py", "u * current - p * previous", "u * current - previous"),
        ("models/teachers.py", "/ math.sqrt(self.num_relevant)", "/ self.num_relevant"),
    ],
    "tests/models/test_tabular.py -k 'separators or shift or leak or rare or standard or constant'": [
        ("models/tabular.py", 'decimal="," if decimal_comma', 'decimal="." if decimal_comma'),
        ("models/tabular.py", "len(rows[1]) > len(header)", "len(rows[1]) > len(header) + 1"),
        ("models/tabular.py", "np.array_equal(table[name], table[target])", "False"),
        ("models/tabular.py", "len(item[1][0])", "-len(item[1][0])"),
        (
            "models/dataset.py",
            "x_test=(x_test - mean) / scale",
            "x_test=(x_test - x_test.mean(axis=0)) / scale",
        ),
        ("models/dataset.py", "[order[y[order] == value] for value in classes]", "[order]"),
    ],
    # --- estimators and verdicts ---
    "tests/analysis/test_diagnose_convergence.py tests/analysis/test_diagnose.py": [
        (f"{CHECKS}/convergence.py", "R_HAT_LIMIT = 1.02", "R_HAT_LIMIT = 2.0"),
        (f"{CHECKS}/convergence.py", "if nested else", "if not nested else"),
        (f"{CHECKS}/convergence.py", "worst >= ESS_LIMIT", "worst >= 0"),
        (f"{CHECKS}/differences.py", "np.hypot(*(standard_errors", "max(*(standard_errors"),
        (f"{CHECKS}/importance.py", "psislw(-log_ratios)", "psislw(log_ratios)"),
    ],
    "tests/analysis/test_diagnose_verdict.py": [
        (f"{CHECKS}/differences.py", "START_TOLERANCE = 0.1", "START_TOLERANCE = 100.0"),
        (f"{CHECKS}/differences.py", "norm.isf(SIGNIFICANCE / 2 / max(1, len(table)))", "norm.isf(0.2)"),
        (f"{CHECKS}/differences.py", "surely.max() > BIAS_TOLERANCE", "surely.max() > 10"),
        (f"{CHECKS}/verdict.py", "DISTANCE_LIMIT = 0.25", "DISTANCE_LIMIT = 25.0"),
        (f"{CHECKS}/importance.py", "PARETO_K_LIMIT = 0.7", "PARETO_K_LIMIT = 7.0"),
        (f"{CHECKS}/energy.py", "BFMI_LIMIT = 0.3", "BFMI_LIMIT = 0.0"),
    ],
    "tests/analysis/test_distances.py": [
        (f"{CHECKS}/distances.py", ".sum() - len(o)) / (len(o) * (len(o) - 1))", ".sum()) / len(o) ** 2"),
        (f"{CHECKS}/distances.py", "0.5 * np.abs(p - q)", "np.abs(p - q)"),
        (f"{CHECKS}/distances.py", "_sd(f[label]) / _sd(f[reference])", "_sd(f[reference]) / _sd(f[label])"),
    ],
    "tests/analysis/test_order_parameters.py tests/analysis/test_feature_selection.py": [
        ("analysis/results/order_parameters.py", "np.sqrt((count - 1) * mse.var())", "np.sqrt(mse.var())"),
        (
            "analysis/results/order_parameters.py",
            "ratio = on.mean() / off.mean()",
            "ratio = (on / off).mean()",
        ),
        (f"{CHECKS}/feature_selection.py", "- size * (size + 1) / 2", "- size * size / 2"),
        (
            f"{CHECKS}/feature_selection.py",
            "outgoing_strength(posterior) ** 2",
            "outgoing_strength(posterior)",
        ),
    ],
    "tests/analysis/test_diagnose_calibration.py": [
        (f"{CHECKS}/calibration.py", "residual / target_noise), axis=0)", "residual), axis=0)"),
        (f"{CHECKS}/calibration.py", "f + target_noise * rng", "f + 2 * target_noise * rng"),
    ],
}


def copy_tree(folder: Path) -> None:
    """The parts of the repository that tests read, in `folder`, with what Python has compiled."""
    for name in COPIED:
        source = ROOT / name
        shutil.copytree(source, folder / name) if source.is_dir() else shutil.copy(source, folder / name)


def write(path: Path, text: str) -> None:
    """Write a source file, and forget what was compiled of the last one, which may look as old."""
    path.write_text(text, encoding="utf-8")
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()


def in_child(folder: Path, tests: list[str]) -> None:
    os.chdir(folder)
    with (folder / "log").open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    # Told apart from 1, with which Python ends where the child itself fails.
    sys.exit(SHIFT + pytest.main([*tests, "-q", "-x", "-n0", "-p", "no:cacheprovider"]))


def run(context, folder: Path, tests: list[str]) -> int:
    """pytest's exit status, in a process of its own; 1 where a test failed, or did not end."""
    process = context.Process(target=in_child, args=(folder, tests))
    process.start()
    try:
        process.join(TIMEOUT)
        return 1 if process.is_alive() else process.exitcode - SHIFT
    finally:  # after Ctrl-C, too
        process.kill()
        process.join()


def try_group(context, stopped, tests: str, mutants: list[tuple[str, str, str]]) -> tuple[str, int]:
    """What became of the mutants of one group of tests, and how many were not killed."""
    command, lines, faults, began = shlex.split(tests), [], 0, time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="mfzoo-mutants-") as temporary:
        folder = Path(temporary)
        copy_tree(folder)
        if run(context, folder, command) != 0:
            return f"{tests}\n  FAILS without a mutant\n" + (folder / "log").read_text()[-1500:], 1
        for file, old, new in mutants:
            if stopped.is_set():
                break
            path = folder / file
            source = path.read_text(encoding="utf-8")
            if source.count(old) != 1:
                outcome = f"STALE, its text is there {source.count(old)} times:"
            else:
                mutated = source.replace(old, new)
                compile(mutated, file, "exec")
                write(path, mutated)
                status = run(context, folder, command)
                write(path, source)
                outcome = {0: "SURVIVED", 1: "killed"}.get(status, f"BROKEN, pytest ended with {status}:")
            faults += outcome != "killed"
            lines.append(f"  {outcome} {file}: {old!r} -> {new!r}")
    return "\n".join([f"{tests} ({time.perf_counter() - began:.0f} s)", *lines]), faults


def main(wanted: list[str]) -> int:
    """Print what became of every mutant; 1 where one was not killed."""
    chosen = {
        tests: [m for m in mutants if not wanted or any(part in m[0] or part in tests for part in wanted)]
        for tests, mutants in MUTANTS.items()
    }
    chosen = {tests: mutants for tests, mutants in chosen.items() if mutants}
    faults, began = 0, time.perf_counter()
    # One cache of compiled programs for all of them.
    with tempfile.TemporaryDirectory(prefix="mfzoo-mutants-jax-") as cache:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", cache)
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(PRELOADED))
        pool, stopped = ThreadPoolExecutor(os.cpu_count()), threading.Event()
        try:
            running = [pool.submit(try_group, context, stopped, *group) for group in chosen.items()]
            for group in as_completed(running):
                text, missed = group.result()
                faults += missed
                print(text, flush=True)
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)
    count = sum(map(len, chosen.values()))
    print(f"{count} mutants, {faults} faults, {time.perf_counter() - began:.0f} s")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
