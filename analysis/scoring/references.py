"""Reference answers: made by NUTS, cross-checked by BAOAB, or in closed form."""

from datetime import date
from importlib.metadata import version
from math import ceil
from time import perf_counter

import jax
from numpyro.infer import MCMC, NUTS

from analysis.diagnostics.convergence import R_HAT_LIMIT
from analysis.results.files import write_text
from analysis.schemes.kernels import KERNELS
from analysis.scoring.functions import Draws, draws_of, functions_of_draws
from analysis.scoring.score import compare_functions, data_figures, judge, summarise_functions
from inference import UnderdampedLangevin, sample
from inference.runs.progress import ProgressCallback
from models import Isotropic
from models.problems import Problem, Reference
from models.problems.reference import FIGURES

_CHAINS = 4
_PACKAGES = ("mean-field-zoo", "jax", "numpyro", "arviz", "numpy")
# BAOAB on models that are no networks: NumPyro starts them at up to e^2 times their scales, where with a
# step of 0.1 the chains of the ARD regression diverged and stood still.
_PLAIN_STEP, _PLAIN_THINNING = 0.02, 50


def make_reference(
    of: Problem, effort: float = 1.0, seed: int = 0, progress: ProgressCallback | None = None
) -> Reference:
    """Make the reference of a problem, in closed form where it has one, and write its file.

    Otherwise four chains of NUTS, of a network two from the prior and two from aligned neurons
    where the relevant inputs are known, give means, standard deviations and errors; `effort` is a
    factor on their 4000 draws each. Underdamped Langevin (BAOAB) at an eighth of the step that it
    finds by itself, so that no bias is left to see, is then held against them as any scheme is
    (:func:`analysis.scoring.score.judge`). There is no reference, and the file says why, where an
    R-hat of NUTS is above 1.02 or the two samplers disagree beyond error.
    """
    known = {"data": data_figures(of), "date": date.today().isoformat()}
    known["versions"] = {name: version(name) for name in _PACKAGES}
    if of.exact is not None:
        moments = {name: [*map(_short, values), 0.0, 0.0] for name, values in of.exact(of).items()}
        reference = Reference("exact", "closed form", moments, recipe={"by": of.exact.__name__}, **known)
    else:
        reference = _sampled(of, effort, seed, progress or (lambda done, total, text: None), known)
    write_text(of.reference_path, reference.to_text())
    return reference


def _sampled(of: Problem, effort: float, seed: int, progress: ProgressCallback, known: dict) -> Reference:
    key_first, key_second = jax.random.split(jax.random.key(seed))
    run = _run_network if of.of_network else run_model
    answers = []
    for name, key in (("nuts", key_first), ("langevin", key_second)):
        began = perf_counter()
        draws, recipe = run(of, name, key, effort, progress)
        functions = functions_of_draws(draws, of)
        table = summarise_functions(functions, independent=False)
        recipe |= {"seed": seed, "chains": _CHAINS, "draws": functions.sizes["draw"]}
        recipe |= {"r_hat_max": _short(table["r_hat"].max()), "ess_min": _short(table["ess"].min())}
        recipe |= {"gradients": draws.gradient_evaluations, "seconds": _short(perf_counter() - began)}
        answers.append((functions, table, recipe))
    (_, first, recipe), (functions, second, check) = answers
    moments = {name: [_short(row[column]) for column in FIGURES] for name, row in first.iterrows()}
    verdict, message, figures = judge(compare_functions(functions, moments, independent=False))
    check |= {"verdict": verdict, "message": message, "p_value": _short(figures["p_value"])}
    status, reason = "none", "the second sampler cannot tell: " + message
    if first["r_hat"].max() > R_HAT_LIMIT:
        worst = first["r_hat"].idxmax()
        reason = f"the chains of NUTS disagree on {worst}, R-hat {first['r_hat'].max():.3f}"
    elif verdict == "biased":
        reason = "NUTS and BAOAB disagree beyond error: " + message
    elif second["r_hat"].max() <= R_HAT_LIMIT:
        status, reason = "sampled", "NUTS and BAOAB agree within their errors"
    return Reference(status, reason.rstrip("."), moments, recipe=recipe, cross_check=check, **known)


def _run_network(of: Problem, name: str, key, effort: float, progress) -> tuple[Draws, dict]:
    network, data = of.network, of.data
    options = {"start": "prior" if data.relevant is None else "both", "num_chains": _CHAINS}
    if name == "nuts":
        kernel = KERNELS["nuts"].default(network)
        options |= {"num_warmup": 1000, "num_samples": round(4000 * effort), "thinning": 1}
        settings = {"kernel": "NUTS", **kernel.keywords}
    else:
        # An eighth of the step that suits a user, of which no bias is left to see.
        step = (0.4 if isinstance(network.prior, Isotropic) else 0.2) * network.kappa
        kernel = UnderdampedLangevin(step_size=step, preconditioner="prior")
        every = ceil(2 / step)
        draws = round(2000 * effort)
        options |= {"num_warmup": 100 * every, "num_samples": draws * every, "thinning": every}
        settings = kernel.settings()
    tree = sample(network, data, kernel, key, progress=progress, **options)
    return draws_of(tree, of), {"kernel": settings["kernel"], **settings, **options}


def run_model(of: Problem, name: str, key, effort: float, progress=None) -> tuple[Draws, dict]:
    """Draws of a problem that is no network of ours, by ``nuts`` or BAOAB, and the run's settings."""
    if name == "nuts":
        kernel, settings = NUTS(of.network, target_accept_prob=0.95), {"kernel": "NUTS"}
        lengths = {"num_warmup": 2000, "num_samples": round(10_000 * effort), "thinning": 1}
    else:
        kernel = UnderdampedLangevin(of.network, step_size=_PLAIN_STEP, friction=1.0)
        draws = round(10_000 * effort)
        lengths = {"num_warmup": 200 * _PLAIN_THINNING, "num_samples": draws * _PLAIN_THINNING}
        lengths["thinning"], settings = _PLAIN_THINNING, kernel.settings()
    began = perf_counter()
    mcmc = MCMC(kernel, num_chains=_CHAINS, chain_method="vectorized", progress_bar=False, **lengths)
    mcmc.run(key, **of.model_kwargs, extra_fields=("num_steps",) if name == "nuts" else ())
    draws = draws_of(mcmc, of)
    work = draws.gradient_evaluations or _CHAINS * (lengths["num_warmup"] + lengths["num_samples"])
    made = Draws(draws.sites, name, gradient_evaluations=work, wall_time_s=perf_counter() - began)
    return made, {**settings, **lengths}


def _short(value: float) -> float:
    return float(f"{float(value):.7g}")
