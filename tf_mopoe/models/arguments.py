"""Checks of a model's arguments: modalities, their networks, subsets, weights."""

import math
import numbers
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from tf_mopoe.distributions import LIKELIHOODS
from tf_mopoe.distributions.event_likelihoods import EventLikelihood, event_likelihood
from tf_mopoe.modality import Modality
from tf_mopoe.objectives.objective import OBJECTIVES
from tf_mopoe.subsets import SubsetSampler, membership_mask

#: Attribute of layers: name of the model that they are part of.
OWNER = "_multimodal_vae"
#: Above this many modalities the 2^M subsets must be sampled.
MAX_MODALITIES_EXACT = 12


def checked_modalities(modalities: Sequence[Modality]) -> tuple[Modality, ...]:
    """The modalities of a model.

    Raises:
      TypeError, ValueError: If there is none, one is not a `Modality`, or two share a
        name or a network.
    """
    if isinstance(modalities, Modality) or not isinstance(modalities, Iterable):
        raise TypeError(
            f"`modalities` must be a list of `Modality`. Received: {modalities!r}."
        )
    modalities = tuple(modalities)
    for modality in modalities:
        if not isinstance(modality, Modality):
            raise TypeError(
                f"`modalities` must be a list of `Modality`. Received: {modality!r}."
            )
    _check_networks(modalities)
    names = [modality.name for modality in modalities]
    if not names or len(set(names)) < len(names):
        raise ValueError(
            "`modalities` must contain at least one modality, with unique names. "
            f"Received names: {names}."
        )
    for name in names:
        for other in names:
            if name != other and other.lower() in (
                name.lower(),
                name.lower() + "_bytes",
            ):
                raise ValueError(
                    f"`modalities` named {name!r} and {other!r} could not be served "
                    "together: their inputs would have one name. Rename one."
                )
    return modalities


def _networks(modality: Modality) -> list[tuple[str, keras.layers.Layer]]:
    """The networks that a modality was given, each with a name for messages."""
    pairs = (("encoder", modality.encoder), ("decoder", modality.decoder))
    return [
        (f"{kind} of modality {modality.name!r}", network)
        for kind, network in pairs
        if network is not None
    ]


def _check_networks(modalities: Sequence[Modality]) -> None:
    """Raises a ValueError if a layer has two places, in this model or in two."""
    owners: dict[int, str] = {}
    for modality in modalities:
        for what, network in _networks(modality):
            for layer in {id(x): x for x in network._flatten_layers()}.values():
                other = owners.setdefault(id(layer), what)
                if other != what and (layer is network or layer.weights):
                    raise ValueError(
                        f"The {what} and the {other} share the layer {layer.name!r}. A "
                        "shared layer could not be saved: build it twice."
                    )
                if layer.trainable_variables and hasattr(layer, OWNER):
                    raise ValueError(
                        f"The {what} has the layer {layer.name!r}, which is part of "
                        f"model {getattr(layer, OWNER)!r} already: two models would "
                        "train the same weights. Make new modalities for each model, "
                        "or copies, weights included: `copy.deepcopy(modalities)`."
                    )


def claim_networks(modalities: Sequence[Modality], model_name: str) -> None:
    """Marks all layers of a model, so that no second model takes them."""
    for modality in modalities:
        for _, network in _networks(modality):
            for layer in network._flatten_layers():
                layer.__dict__[OWNER] = model_name


def checked_likelihood(modality: Modality) -> EventLikelihood:
    """The likelihood of a modality.

    Raises:
      ValueError: If its name is unknown, or it does not fit the modality's shape,
        scale or classes.
    """
    try:
        likelihood = event_likelihood(
            modality.likelihood, modality.event_shape, modality.num_classes
        )
    except ValueError as error:
        raise ValueError(f"Modality {modality.name!r}: {error}") from error
    if not likelihood.scaled and modality.likelihood_scale != 1.0:
        raise ValueError(
            f"Modality {modality.name!r}: `likelihood_scale` has no effect with "
            f"likelihood {modality.likelihood!r}. Received: "
            f"{modality.likelihood_scale!r}."
        )
    return likelihood


def check_last_activation(modality: Modality) -> None:
    """Raises a ValueError if a decoder ends in what its likelihood applies itself."""
    if not isinstance(modality.likelihood, str):
        return
    likelihood = LIKELIHOODS[modality.likelihood]
    network = modality.decoder
    while isinstance(network, (keras.Sequential, keras.models.Model)):
        layers = [x for x in network.layers if not isinstance(x, keras.layers.Reshape)]
        if not layers:
            return
        network = layers[-1]
    activation = getattr(network, "activation", None)
    name = getattr(activation, "__name__", type(network).__name__.lower())
    if name in likelihood.activations:
        raise ValueError(
            f"The decoder of modality {modality.name!r} must return "
            f"{likelihood.parameter_name} for likelihood {modality.likelihood!r}, but "
            f"ends in {name}, which the likelihood applies itself. Leave that "
            "activation out."
        )


def reconstruction_weights(
    modalities: Sequence[Modality], likelihoods: Sequence[EventLikelihood]
) -> dict[str, float]:
    """r_m by name; `"dimension"` is the largest number of variables over its own."""
    largest = max(likelihood.num_variables for likelihood in likelihoods)
    return {
        modality.name: (
            largest / likelihood.num_variables
            if isinstance(modality.reconstruction_weight, str)
            else modality.reconstruction_weight
        )
        for modality, likelihood in zip(modalities, likelihoods)
    }


def check_combination(
    objective: str,
    component_draw: str,
    subsets: Any,
    beta_style: float,
    modalities: Sequence[Modality],
) -> None:
    """Raises a ValueError for an unknown objective, or arguments that exclude another.

    `subsets` and the others are the model's arguments.
    """
    if objective not in OBJECTIVES:
        raise ValueError(
            f"`objective` must be one of {list(OBJECTIVES)}. Received: {objective!r}."
        )
    if component_draw == "contiguous" and (
        objective != "elbo" or isinstance(subsets, SubsetSampler)
    ):
        raise ValueError(
            "`component_draw='contiguous'` is for the ELBO of a fixed family of "
            "subsets: it is not random. Use 'stratified'."
        )
    if beta_style != 1.0 and not any(m.style_dim for m in modalities):
        raise ValueError(
            "`beta_style` has no effect: no modality has a `style_dim`. "
            f"Received: {beta_style!r}."
        )


def subsets_by_index(subsets: Any, names: Sequence[str]) -> Any:
    """The subsets with modalities as indices; families and samplers keep their kind.

    Args:
      subsets: Family name, `SubsetSampler`, or lists of modality names or indices.
      names: Names of the model's modalities, in order.

    Raises:
      ValueError: If it is none of these, or names an unknown modality.
    """
    if isinstance(subsets, str):
        return subsets
    if isinstance(subsets, SubsetSampler):
        always = subsets_by_index(subsets.always, names)
        return SubsetSampler(subsets.num_subsets, always, subsets.seed)
    names = list(names)
    try:
        listed = [
            [m if isinstance(m, str) else operator.index(m) for m in subset]
            for subset in subsets
            if not isinstance(subset, str)
        ]
        complete = len(listed) == len(subsets)
    except TypeError:
        complete = False
    if not complete:
        raise ValueError(
            "`subsets` must be a family's name or a list of lists of modalities, "
            f"such as [['a'], ['a', 'b']]. Received: {subsets!r}."
        )
    unknown = {m for subset in listed for m in subset} - {*names, *range(len(names))}
    if unknown:
        raise ValueError(
            f"`subsets` names unknown modalities {sorted(unknown, key=str)}; this "
            f"model has {names}."
        )
    return [
        [names.index(m) if isinstance(m, str) else m for m in subset]
        for subset in listed
    ]


def subset_mask(subsets: Any, count: int) -> np.ndarray | None:
    """Membership mask `[S, M]` of the subsets; None where they are sampled.

    Raises:
      ValueError: If there are too many subsets, or one is invalid.
    """
    if isinstance(subsets, SubsetSampler):
        return None
    if isinstance(subsets, str) and subsets in ("nonempty", "powerset"):
        check_few_modalities(f"`subsets={subsets!r}`", count)
    mask = np.array(membership_mask(count, subsets))
    mask.setflags(write=False)
    return mask


def check_few_modalities(what: str, count: int) -> None:
    """Raises a ValueError where 2^M subsets would be too many."""
    if count > MAX_MODALITIES_EXACT:
        raise ValueError(
            f"{what} of {count} modalities are too many (more than "
            f"2^{MAX_MODALITIES_EXACT}). Sample some in each step: "
            "`subsets=tf_mopoe.subsets.SubsetSampler(16)`, whose `posterior` mixes "
            "as many."
        )


def checked_weight(name: str, weight: Any) -> float:
    """The weight as a float.

    Raises:
      TypeError: If it is no number.
      ValueError: If it is negative or not finite.
    """
    expected = "a number, 0 or more" + (", or a schedule" if name == "beta" else "")
    message = f"`{name}` must be {expected}. Received: {weight!r}."
    if not isinstance(weight, numbers.Real) or isinstance(weight, bool):
        raise TypeError(message)
    number = float(weight)
    if not 0 <= number < math.inf:
        raise ValueError(message)
    return number
