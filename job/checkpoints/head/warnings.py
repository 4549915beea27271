"""What a reader of the results may want to know of W and its surroundings. None of it changes W."""

from collections.abc import Iterator, Mapping

from job.checkpoints.file_names import CONFIG
from job.checkpoints.head.config import stated_number, text_settings
from job.checkpoints.head.names import bias_of
from job.checkpoints.head.quantisation import beside_weight
from job.checkpoints.head.tie import TieState
from job.checkpoints.head.weight_sets import USUAL
from job.checkpoints.head.weights import Weights
from job.errors import join_limited

CHANGES_LOGITS = (
    "final_logit_softcapping",
    "logit_scale",
    "logits_scaling",
    "output_multiplier_scale",
    "lm_head_multiplier",
    "dim_model_base",
)
"""Settings that scale the hidden state before the product with W, or the logits: Gemma, Cohere, Granite, Falcon-H1,
MiniCPM."""

NORMALISED = ("baichuan", 125_696)
"""The model type whose head is normalised row by row before the product, and its vocabulary; Baichuan 1 has 64,000."""


def remarks(weights: Weights, config: Mapping[str, object], name: str, tie: TieState) -> Iterator[str]:
    """Each a sentence, about the tensor ``name`` that was chosen."""
    if weights.others:
        yield f"{weights.reason}; also there and not read: {join_limited(weights.others)}"
    elif not weights.reason.endswith(USUAL):
        yield weights.reason
    if tie.tie == "config_says_tied_but_differ":
        yield f"{tie.evidence}: transformers 4 put the embedding in the head's place when it loaded, 5 keeps both"
    if scales := beside_weight(name, weights.names):
        yield f"{join_limited(scales)} beside {name} may scale it; what is measured are the stored values"
    if bias_of(name) in weights.names:
        yield f"{bias_of(name)} is added to the logits; it is no part of W"
    for settings in text_settings(config):
        for key in CHANGES_LOGITS:
            value = settings.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield f"{CONFIG} sets {key} to {value}: it changes the logits, not W"
    vocabulary = stated_number(config, ("vocab_size",))
    if vocabulary and (config.get("model_type"), vocabulary[1]) == NORMALISED:
        yield "Baichuan 2 normalises the rows of its head before the product with them; W is as stored"
