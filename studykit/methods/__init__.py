"""The fine-tuning methods: each is one short function that says which parameters train.

``apply`` freezes the whole model, calls the method's function, and trains the head, which every method does.
"""

import inspect
import json
from typing import TYPE_CHECKING

from studykit import Later, checks

if TYPE_CHECKING:
    import torch
    from torch import nn

    from studykit.methods import adapters
    from studykit.models import encoders
else:  # names and options are checked where records are only read, and there nobody waits for torch
    torch, nn, adapters, encoders = map(Later, ("torch", "torch.nn", "studykit.methods.adapters", "studykit.models.encoders"))


def full(model):
    """Every parameter."""
    _train(model.parameters())


def head(model):
    """Nothing but the head."""


def bitfit(model, terms=None):
    """Every bias that the encoder has (Ben Zaken et al. 2022, arXiv 2106.10199).

    Biases are found by module type, so an inserted module's or another layer's of a like name cannot slip in.
    ``terms`` keeps only the biases of those roles (``encoders.ROLES``): ``("query", "intermediate")`` is the paper's
    subset of section 3.1, which it calls b_q and b_m2.
    """
    if terms is None:
        biases = [module.bias for module in model.base_model.modules()
                  if isinstance(module, nn.Linear | nn.LayerNorm) and module.bias is not None]
    else:
        if unknown := set(terms) - set(encoders.ROLES):
            raise ValueError(f"unknown bitfit term {', '.join(sorted(unknown))}: choose from {', '.join(encoders.ROLES)}")
        biases = [bias for block in encoders.blocks(model) for term in terms
                  if (bias := block.linear[term].bias) is not None]
    if not biases:
        raise ValueError(f"{type(model).__name__} has no biases to train: bitfit cannot be used with it; "
                         "layernorm, adapter or head can")
    _train(biases)


def adapter(model, placement="houlsby", bottleneck=64, layernorms=True, seed=0):
    """Bottleneck adapters, and the LayerNorms unless told not to (Houlsby et al. 2019, section 2.1)."""
    inserted = adapters.insert(model, placement, bottleneck, seed)
    if layernorms:
        layernorm(model)
    for module in inserted:
        _train(module.parameters())


def layernorm(model):
    """Weights and biases of the LayerNorms: a control for BitFit."""
    for module in model.base_model.modules():
        if isinstance(module, nn.LayerNorm):
            _train(module.parameters())


def random(model, seed=0):
    """As many single weights as BitFit trains biases, drawn at random: is it the biases, or only their number?"""
    head = {id(parameter) for _, parameter in encoders.head_parameters(model)}
    layers = [module for module in model.base_model.modules()
              if isinstance(module, nn.Linear | nn.LayerNorm) and id(module.weight) not in head]
    count = sum(module.bias.numel() for module in layers if module.bias is not None)
    weights = [module.weight for module in layers if isinstance(module, nn.Linear)]
    generator = encoders.generator(seed, 2)
    chosen = torch.zeros(sum(weight.numel() for weight in weights), dtype=torch.bool)
    while missing := count - int(chosen.sum()):  # those drawn twice; a permutation of all weights would take longer
        chosen[torch.randint(len(chosen), (missing,), generator=generator)] = True
    _train(weights)
    for weight, mask in zip(weights, chosen.split([weight.numel() for weight in weights]), strict=True):
        weight.trained = mask.view_as(weight)
        weight.register_hook(lambda gradient, mask=weight.trained: gradient * mask.to(gradient.device))


def last_k(model, k=1):
    """The last ``k`` layers."""
    blocks = encoders.blocks(model)
    if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= len(blocks):
        raise ValueError(f"k must be 1 to {len(blocks)}, the encoder's layers, got {k!r}")
    for block in blocks[-k:]:
        _train(block.module.parameters())


METHODS = {"full": full, "bitfit": bitfit, "adapter": adapter, "head": head, "layernorm": layernorm, "random": random,
           "last_k": last_k}
DRAWN = ("adapter", "random")  # methods that draw something of their own, by the init seed


def get(name):
    """The method's function. Raises ``ValueError`` for an unknown name."""
    if not isinstance(name, str) or name not in METHODS:
        raise ValueError(f"unknown method {name!r}: choose from {', '.join(METHODS)}")
    return METHODS[name]


def check(name, options):
    """Raise ``ValueError`` where ``options`` is no mapping from options of the method to values of their defaults' types."""
    checks.value(f"options of {name}", options, dict)
    _, *parameters = inspect.signature(get(name)).parameters.values()
    known = {parameter.name: parameter.default for parameter in parameters if parameter.name != "seed"}
    if unknown := options.keys() - known.keys():
        raise ValueError(f"{name} has no option {', '.join(sorted(map(str, unknown)))}: "
                         + (f"choose from {', '.join(known)}" if known else "it takes none"))
    for option, value in options.items():
        kind = list | None if known[option] is None else type(known[option])
        checks.value(f"{option} of {name}", list(value) if isinstance(value, tuple) else value, kind)


def apply(name, model, seed=0, **options):
    """Set up ``model`` in place for a method and return it: freeze all, let the method choose, train the head.

    ``options`` are those of the method's function; ``seed`` is the init seed.
    """
    method = get(name)
    if name in DRAWN:
        options["seed"] = seed
    model.requires_grad_(False)
    try:
        method(model, **options)
    except TypeError as error:
        raise ValueError(f"method {name}: {error}") from None
    _train(parameter for _, parameter in encoders.head_parameters(model))
    model.method = {"method": name, "options": {key: value for key, value in options.items() if key != "seed"}}
    return model


def _train(parameters):
    for parameter in parameters:
        parameter.requires_grad_(True)


def counts(model):
    """Numbers of parameters: ``total``, ``trained``, and of those the ``head``'s and the ``encoder``'s (with adapters).

    Single weights count where only they train (``random``).
    """
    head = {id(parameter) for _, parameter in encoders.head_parameters(model)}
    trained = sum(_trained(p) for p in model.parameters())
    in_head = sum(_trained(p) for p in model.parameters() if id(p) in head)
    return {"total": sum(p.numel() for p in model.parameters()), "trained": trained, "head": in_head,
            "encoder": trained - in_head}


def shares(model):
    """The share of each part's weights that trains, from 0 to 1, by part: embeddings, ``encoders.ROLES``, LayerNorms,
    adapters, pooler and the task's layers."""
    part = {id(p): "task layers" for p in model.parameters()}
    for kind, name in ((nn.Embedding, "embeddings"), (nn.LayerNorm, "LayerNorms"), (adapters.Adapter, "adapters")):
        part |= {id(p): name for module in model.modules() if isinstance(module, kind) for p in module.parameters()}
    part |= {id(p): role for block in encoders.blocks(model) for role in encoders.ROLES
             for p in block.linear[role].parameters()}
    if pooler := getattr(model.base_model, "pooler", None):
        part |= {id(p): "pooler" for p in pooler.parameters()}
    sizes = {name: [0, 0] for name in ("embeddings", *encoders.ROLES, "LayerNorms", "adapters", "pooler", "task layers")}
    for p in model.parameters():
        sizes[part[id(p)]][0] += _trained(p)
        sizes[part[id(p)]][1] += p.numel()
    return {name.replace("_", " "): trained / size for name, (trained, size) in sizes.items() if size}


def _trained(parameter):
    if hasattr(parameter, "trained"):
        return int(parameter.trained.sum())
    return parameter.numel() if parameter.requires_grad else 0


def only_head(model):
    """Whether the encoder is frozen whole: then it can stay in evaluation mode and be run once."""
    return counts(model)["encoder"] == 0


def save(model, file, labels=(), **notes):
    """Write what was trained, and nothing else, to a safetensors file; label names and method go into its metadata."""
    from safetensors.torch import save_file

    _check_labels(labels, model.config.num_labels, "")
    tensors = {name: parameter.detach().cpu().contiguous() for name, parameter in model.named_parameters()
               if parameter.requires_grad}
    about = {**model.method, "labels": list(labels), "num_labels": model.config.num_labels,
             "pooler": "new" if getattr(model.config, "new_pooler", False) else "pretrained", **notes}
    save_file(tensors, file, metadata={"studykit": json.dumps(about)})


def _check_labels(labels, outputs, where):
    if labels and len(labels) != outputs:
        raise ValueError(f"{where}labels must be the names of the model's {outputs} outputs, or none, got {list(labels)}")


def load(file, encoder):
    """The fine-tuned model again: the encoder's weights with the saved ones on top, in evaluation mode.

    ``encoder`` must be the one that was fine-tuned. Raises ``ValueError`` where tensors do not fit.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  (not a dict)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{file} cannot be read ({error}): give a file that studykit.methods.save wrote") from None
    if "studykit" not in metadata:
        raise ValueError(f"{file} was not written by studykit.methods.save: give one that was")
    about = json.loads(metadata["studykit"])
    _check_labels(about["labels"], about["num_labels"], f"{file}: ")
    model = encoders.load(encoder, about["num_labels"], pooler=about["pooler"])
    if about["labels"]:
        model.config.id2label = dict(enumerate(about["labels"]))
        model.config.label2id = {label: i for i, label in enumerate(about["labels"])}
    apply(about["method"], model, **about["options"])
    own = {name: parameter.shape for name, parameter in model.named_parameters() if parameter.requires_grad}
    stored = {name: tensor.shape for name, tensor in tensors.items()}
    if wrong := sorted(name for name in own.keys() | stored.keys() if own.get(name) != stored.get(name)):
        raise ValueError(f"{file} does not fit {encoder} ({wrong[0]} is in one of them only, or has another shape): give "
                         "the encoder that was fine-tuned")
    model.load_state_dict(tensors, strict=False)
    return model.eval()
