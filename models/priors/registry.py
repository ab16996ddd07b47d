"""The zoo's priors by name, and priors from a user's file."""

import ast
import inspect
import re

from models.own_files import import_file
from models.priors.ard import ARD, GroupedARD, NeuronARD
from models.priors.base import WeightPrior
from models.priors.dirichlet import DirichletScaleMixture
from models.priors.homogeneous import Homogeneous
from models.priors.horseshoe import RegularisedHorseshoe
from models.priors.isotropic import Isotropic
from models.priors.learned_scale import LearnedScale
from models.priors.spike_and_slab import SpikeAndSlab
from models.priors.student_t import StudentT

PRIORS: dict[str, type[WeightPrior]] = {
    "isotropic": Isotropic,
    "ard": ARD,
    "neuron-ard": NeuronARD,
    "grouped-ard": GroupedARD,
    "student-t": StudentT,
    "regularised-horseshoe": RegularisedHorseshoe,
    "spike-and-slab": SpikeAndSlab,
    "dirichlet-scale-mixture": DirichletScaleMixture,
    "learned-scale": LearnedScale,
    "homogeneous": Homogeneous,
}


def make_prior(text: str, **defaults) -> WeightPrior:
    """The prior that `text` names: of the zoo, or in a user's file, with its parameters.

    `text` is ``NAME`` or ``FILE.py:CLASS``, either with parameters as in ``student-t(df=3)``, whose
    values are Python literals; it overrides `defaults`, of which those that the prior does not have
    are ignored. ``ValueError`` for what is not known, cannot be loaded or is out of range.

    Examples
    --------
    >>> make_prior("student-t(df=3)")
    StudentT(df=3, scale=1.0)
    >>> make_prior("grouped-ard(groups=((0, 1), (2, 3)))", shape=2.0).shape
    2.0
    """
    match = re.fullmatch(r"\s*([^()]+?)\s*(?:\((.*)\))?\s*", text, re.DOTALL)
    if match is None:
        raise ValueError(
            f"prior must be a name, or a name with parameters such as ard(shape=2), got {text!r}."
        )
    name, arguments = match.groups()
    prior = load_prior_class(name) if ".py:" in name else PRIORS.get(name)
    if prior is None:
        raise ValueError(f"prior must be one of {', '.join(PRIORS)}, or FILE.py:CLASS; got {name!r}.")
    given = _parameters(text, arguments)
    known = parameters(prior)
    unknown = [key for key in given if key not in known]
    if unknown:
        raise ValueError(
            f"prior {name!r} has no parameter {unknown[0]!r}; it has {', '.join(known) or 'none'}."
        )
    try:
        return prior(**{key: value for key, value in defaults.items() if key in known} | given)
    except TypeError as error:
        raise ValueError(
            f"prior {text!r} cannot be made: {error}; give its parameters in brackets."
        ) from None


def load_prior_class(place: str) -> type[WeightPrior]:
    """The class at ``FILE.py:CLASS``."""
    file, _, name = place.rpartition(":")
    module = import_file(file, "prior")
    prior = getattr(module, name, None)
    if not (isinstance(prior, type) and issubclass(prior, WeightPrior)):
        types = (value for value in vars(module).values() if isinstance(value, type))
        own = [t.__name__ for t in types if issubclass(t, WeightPrior) and t.__module__ == module.__name__]
        raise ValueError(
            f"prior file {file!r} has no subclass of models.WeightPrior named {name!r}; "
            + (f"it has {', '.join(own)}." if own else "declare one there.")
        )
    return prior


def parameters(prior: type[WeightPrior]) -> dict[str, object]:
    """Names and defaults of a prior's parameters."""
    return {key: value.default for key, value in inspect.signature(prior).parameters.items()}


def _parameters(text: str, arguments: str | None) -> dict:
    """The literal keyword arguments in the brackets of `text`."""
    try:
        call = ast.parse(f"f({arguments or ''})", mode="eval").body
        if not isinstance(call.func, ast.Name) or call.args or None in (k.arg for k in call.keywords):
            raise ValueError
        return {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, AttributeError):
        raise ValueError(
            f"prior {text!r} must have its parameters as name=value with plain values, such as ard(shape=2)."
        ) from None
