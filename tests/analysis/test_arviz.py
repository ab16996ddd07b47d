"""Every function that ArviZ exports for a tree of draws, on every scheme's tree: it runs, or is
refused for a reason that is listed here."""

import inspect
from types import SimpleNamespace

import arviz
import jax
import numpy as np
import pytest
from numpyro.infer import NUTS

from analysis import prior_predictive
from analysis.schemes.registry import SCHEMES
from inference import SGLD, CollapsedGuide, MeanFieldGuide, fit, sample

# A tree of each kind; the others have the groups of one of them, see the first test.
KINDS = ("sgld", "nuts", "mf-guide", "nngp")
# Single weights mean nothing, so that every call names functions of the network.
M = {"group": "functions", "var_names": ["order_parameter", "train_mse"]}


def words(text):
    return text.split()


def loo(tree):
    return arviz.loo(tree, pointwise=True)


def functions(tree):
    """For what looks at ``posterior`` alone: a tree with the functions in its place."""
    return tree.assign({"posterior": tree["functions"]})


def with_prior(tree):
    return functions(tree).assign({"prior": PRIOR.tree["functions"]})


PRIOR = SimpleNamespace()  # filled by the fixture
CALLS = {
    name: lambda t, name=name: getattr(arviz, name)(t, **M)
    for name in words(
        "ess rhat mcse mean median mode std var mad iqr hdi eti kde qds histogram extract plot_autocorr "
        "plot_convergence_dist plot_dgof plot_dgof_dist plot_dist plot_ess plot_ess_evolution plot_forest "
        "plot_mcse plot_pair plot_parallel plot_rank plot_rank_dist plot_ridge plot_trace plot_trace_dist "
        "plot_ecdf_pit"
    )
}
CALLS |= {
    name: lambda t, name=name: getattr(arviz, name)(t)
    for name in words(
        "bfmi metrics loo_expectations loo_score loo_metrics loo_pit loo_influence get_log_likelihood "
        "get_unconstrained_samples plot_energy plot_loo_interval plot_loo_pava plot_loo_pit "
        "plot_ppc_censored plot_ppc_dist plot_ppc_dist_pit plot_ppc_interval plot_ppc_pava plot_ppc_pit "
        "plot_ppc_rootogram plot_ppc_tstat"
    )
}
CALLS |= {
    "summary": lambda t: arviz.summary(t, group="functions"),
    "diagnose": lambda t: arviz.diagnose(t, group="functions", show_diagnostics=False),
    "rhat_nested": lambda t: arviz.rhat_nested(t, superchain_ids=np.arange(t.posterior.sizes["chain"]), **M),
    "thin": lambda t: arviz.thin(t, factor=2, group="functions"),
    "ecdf": lambda t: arviz.ecdf(t["functions"].dataset["order_parameter"]),
    "ci_in_rope": lambda t: arviz.ci_in_rope(t, rope=(-1, 1), **M),
    "kl_divergence": lambda t: arviz.kl_divergence(t, t, num_samples=20, **M),
    "wasserstein": lambda t: arviz.wasserstein(t, t, num_samples=20, **M),
    "residual_r2": lambda t: arviz.residual_r2(t, "y", "y", group="posterior_predictive"),
    "bayesian_r2": lambda t: arviz.bayesian_r2(t, "f", "noise"),
    "weight_predictions": lambda t: arviz.weight_predictions([t, t]),
    "loo": loo,
    "loo_i": lambda t: arviz.loo_i(0, t),
    "loo_r2": lambda t: arviz.loo_r2(t, "y", n_simulations=50),
    "loo_subsample": lambda t: arviz.loo_subsample(t, observations=10, pointwise=True),
    "update_subsample": lambda t: arviz.update_subsample(
        arviz.loo_subsample(t, observations=10, pointwise=True), t, observations=5
    ),
    "loo_approximate_posterior": lambda t: arviz.loo_approximate_posterior(
        t, log_p=t.sample_stats["log_p"], log_q=t.sample_stats["log_q"]
    ),
    "compare": lambda t: arviz.compare({"one": t, "other": t}),
    "plot_compare": lambda t: arviz.plot_compare(arviz.compare({"one": t, "other": t})),
    "plot_lm": lambda t: arviz.plot_lm(t, x="x", plot_dim="data"),
    "plot_ppc_pava_residuals": lambda t: arviz.plot_ppc_pava_residuals(t, "x"),
    "plot_khat": lambda t: arviz.plot_khat(loo(t)),
    "plot_pair_focus": lambda t: arviz.plot_pair_focus(t, "test_mse", **M),
    "bayes_factor": lambda t: arviz.bayes_factor(with_prior(t), "order_parameter"),
    "plot_bf": lambda t: arviz.plot_bf(with_prior(t), "order_parameter"),
    "plot_prior_posterior": lambda t: arviz.plot_prior_posterior(
        with_prior(t), var_names=["order_parameter"]
    ),
} | {
    name: lambda t, name=name: getattr(arviz, name)(functions(t), var_names=["order_parameter"])
    for name in ("psense", "psense_summary", "plot_psense_dist", "plot_psense_quantities")
}

# Whose call is refused, and why; the same sentences as in docs/arviz.md.
NO_LIKELIHOOD = "its hidden weights have not seen the data: the exact elpd is in the group exact_loo"
NEED_LIKELIHOOD = words(
    "loo loo_i loo_expectations loo_score loo_metrics loo_r2 loo_pit loo_influence loo_subsample "
    "update_subsample compare plot_compare plot_khat psense psense_summary plot_psense_dist "
    "plot_psense_quantities get_log_likelihood plot_loo_interval plot_loo_pava plot_loo_pit"
)
REFUSED = {name: dict.fromkeys(["nngp"], NO_LIKELIHOOD) for name in NEED_LIKELIHOOD}
NO_ENERGY = dict.fromkeys(["sgld", "mf-guide", "nngp"], "the energy is that of HMC")
ONE_CHAIN = dict.fromkeys(["mf-guide", "nngp"], "independent draws are one chain, with nothing to agree with")
REFUSED |= {
    "bfmi": NO_ENERGY,
    "plot_energy": NO_ENERGY,
    "plot_rank": ONE_CHAIN,
    "plot_rank_dist": ONE_CHAIN,
    "loo_approximate_posterior": dict.fromkeys(["sgld", "nuts", "nngp"], "no density log q of the draws"),
    "bayesian_r2": dict.fromkeys(KINDS, "f at the training inputs is not kept: residual_r2"),
    "plot_ppc_pava_residuals": dict.fromkeys(KINDS, "for one input, while x has many"),
    "plot_ppc_rootogram": dict.fromkeys(KINDS, "for counts"),
}
# Readers, arrays, helpers of plots; what refits the model needs a SamplingWrapper of it.
NOT_OF_A_TREE = set(
    words(
        "add_bands add_lines citations clear_data_home combine_plots convert_to_dataset convert_to_datatree "
        "dataset_to_dataarray dataset_to_dataframe dict_to_dataset explode_dataset_dims from_cmdstanpy from_dict "
        "from_emcee from_netcdf from_numpyro from_numpyro_svi generate_dims_coords generate_survival_curves "
        "get_data_home get_function hexbin histogram2d kaplan_meier kde2d list_datasets load_arviz_data make_attrs "
        "ndarray_to_dataarray references_to_dataset xarray_sel_iter xarray_to_ndarray xarray_var_iter survival "
        "lfo_cv loo_kfold loo_moment_match reloo"
    )
)


@pytest.fixture(scope="module")
def trees(small_network, small_data):
    def run(kernel, network=small_network):
        options = {"num_warmup": 20, "num_samples": 60, "num_chains": 2}
        return sample(network, small_data, kernel, jax.random.key(5), **options)

    def guide(guide):
        options = {"num_steps": 20, "num_restarts": 1, "num_draws": 100}
        return fit(small_network, small_data, guide, jax.random.key(1), **options)

    def theory(name):
        return SCHEMES[name].run(small_network, small_data, jax.random.key(0), lambda *_: None)[0]

    def nuts(model):
        return NUTS(model, max_tree_depth=3)

    PRIOR.tree = prior_predictive(small_network, small_data, jax.random.key(2), num_draws=100)
    return {
        "sgld": run(SGLD(step_size=1e-3)),
        "nuts": run(nuts),
        "nuts-collapsed": run(nuts, small_network.collapsed()),
        "mf-guide": guide(MeanFieldGuide()),
        "collapsed-guide": guide(CollapsedGuide()),
        **{name: theory(name) for name in ("nngp", "mean-field", "adaptive-kernel")},
        "prior": PRIOR.tree,
    }


def test_every_scheme_has_the_groups_of_a_kind(trees):
    def contents(name, leave_out=()):
        groups = {group: set(node.variables) for group, node in trees[name].children.items()}
        return {group: names for group, names in groups.items() if group not in leave_out}

    assert contents("nuts-collapsed") == contents("nuts")
    assert contents("collapsed-guide") == contents("mf-guide")
    for name in ("mean-field", "adaptive-kernel"):
        assert contents(name) == contents("nngp", leave_out=("exact_loo",))
    assert contents("prior", leave_out=("line",)) == contents("mean-field")
    for name, tree in trees.items():
        assert {"posterior_predictive", "predictions", "functions"} <= set(tree.children), name
        assert tree["posterior"].sizes["chain"] == (1 if tree.attrs["independent_draws"] else 2), name


def test_the_table_has_every_function():
    exported = {n for n in dir(arviz) if n[0] != "_" and inspect.isfunction(getattr(arviz, n))}
    assert exported - NOT_OF_A_TREE == CALLS.keys()


@pytest.mark.filterwarnings("ignore::UserWarning")  # high Pareto k, guesses about names
@pytest.mark.parametrize("name", CALLS)
def test_function_runs_or_is_refused(name, trees):
    with arviz.rc_context({"plot.backend": "none"}):
        for kind in KINDS:
            if kind in REFUSED.get(name, {}):
                with pytest.raises((TypeError, ValueError, KeyError, AttributeError, ImportError)):
                    CALLS[name](trees[kind])
            else:
                CALLS[name](trees[kind])


def test_summary_of_the_functions_is_short_and_has_no_r_hat_for_independent_draws(trees):
    for kind in KINDS:
        table = arviz.summary(trees[kind], group="functions")
        assert len(table) < 30
        assert {"order_parameter", "f[0]", "f[9]", "test_mse"} <= set(table.index)
        r_hat = table["r_hat"].astype(float)
        assert r_hat.isna().all() == (kind in ("mf-guide", "nngp")), kind
