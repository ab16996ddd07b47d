"""How figures and the columns of tables are written for people, in the terminal and in reports."""

import math

COMPARISON = {
    "kappa": "κ",
    "num_data": "P",
    "order_parameter": "m",
    "order_parameter_sd": "sd of m",
    "order_parameter_se": "± se",
    "deviation": "Δm/se",
    "test_mse": "MSE draw",
    "test_mse_se": "± se ",
    "test_mse_draw": "MSE draw",
    "test_mse_mean": "MSE mean",
    "train_mse": "train MSE",
    "relevance_ratio": "relevance",
    "r_hat_max": "R-hat",
    "ess_min": "ESS",
    "pareto_k": "k̂",
    "elpd_loo": "elpd LOO",
    "gradient_evaluations": "∇U",
    "wall_time_s": "s",
    "num_seeds": "seeds",
    "num_converged": "converged",
    "start_difference": "|Δm| of starts",
    # Of probes, see analysis.diagnostics.probes.
    "false_selection": "probes in top d",
    "auc": "AUC",
    "above_mean": "probes > mean",
    "above_probes": "inputs > probes",
    "included": "P(incl.) > ½",
}
DISTANCES = {
    "scheme": "result",
    "wasserstein": "W(f)",
    "wasserstein_floor": "floor",
    "mmd2": "MMD²",
    "mmd2_floor": "sd",
    "total_variation": "TV",
    "total_variation_floor": "floor",
    "mean_rms": "rms ΔEf",
    "mean_rms_floor": "floor",
    "spread": "sd ratio",
    "order_parameter_difference": "Δm",
    "order_parameter_difference_se": "± se",
}
SELECTION = {
    "scheme": "result",
    "auc": "AUC",
    "auc_se": "± se",
    "precision_at_k": "precision",
    "precision_at_k_se": "± se",
    "inclusion_relevant": "inclusion on S",
    "inclusion_irrelevant": "off S",
    "num_seeds": "seeds",
}
SCORE = {
    "bias_se": "± se",
    "bias_of": "of",
    "rms_bias": "rms",
    "resolution": "seen from",
    "reference_sd": "its sd",
    "relative_error": "relative",
    "z_sd": "z of sd",
    "ess_min": "ESS",
    "ess_per_1000_gradients": "ESS/1000 ∇U",
    "ess_per_second": "ESS/s",
}


def show_value(value) -> str:
    """A figure as a person would write it; a dash where there is none.

    >>> show_value(0.64105), show_value(259850), show_value(None), show_value(True)
    ('0.641', '259,850', '–', 'yes')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)):
        return ", ".join(map(show_value, value)) or "–"
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return (
            f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 0.1 else f"{value:.3f}"
        )
    return f"{value:,}"
