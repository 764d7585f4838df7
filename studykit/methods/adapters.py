"""The bottleneck adapter and where it goes."""

import torch
from torch import nn
from transformers import PreTrainedModel

from studykit.models import encoders

PLACEMENTS = ("houlsby", "pfeiffer", "parallel")


class Adapter(nn.Module):
    """Down, GELU, up: ``x + up(gelu(down(x)))`` for ``x`` of shape (..., width), or without ``x +`` in parallel.

    The up-projection starts at zero, so an inserted adapter changes nothing until it is trained
    (Houlsby et al. 2019, arXiv 1902.00751, section 2.1: near identity).
    """

    def __init__(self, width: int, bottleneck: int, residual: bool = True, generator: torch.Generator | None = None):
        super().__init__()
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        self.residual = residual
        nn.init.normal_(self.down.weight, std=width ** -0.5, generator=generator)
        for parameter in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        change = self.up(nn.functional.gelu(self.down(x)))
        return x + change if self.residual else change


class Beside(nn.Module):
    """A sub-layer with an adapter in parallel (He et al. 2022, arXiv 2110.04366, table 2).

    The adapter reads the feed-forward's input and is added to its output: through the residual where the sub-layer
    makes the sum itself (BERT's ``output(hidden, residual)``), directly where it does not (DistilBERT's ``ffn(x)``).
    """

    def __init__(self, sublayer: nn.Module, adapter: Adapter):
        super().__init__()
        self.sublayer, self.adapter = sublayer, adapter

    def forward(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        if residual is None:
            return self.sublayer(x) + self.adapter(x)
        return self.sublayer(x, residual + self.adapter(residual))


def insert(model: PreTrainedModel, placement: str = "houlsby", bottleneck: int = 64, seed: int = 0) -> list[Adapter]:
    """Insert adapters in place and return them, in the order of the layers.

    ``houlsby``: one after attention, one after the feed-forward, each before the residual sum. ``pfeiffer``: after the
    feed-forward only (Pfeiffer et al. 2021, arXiv 2005.00247). ``parallel``: beside the feed-forward. Their weights come
    from a generator of their own: inserting them moves no other random draw.
    """
    if placement not in PLACEMENTS:
        raise ValueError(f"placement must be one of {', '.join(PLACEMENTS)}, got {placement!r}")
    if not isinstance(bottleneck, int) or bottleneck < 1:
        raise ValueError(f"bottleneck must be a whole number of units, at least 1, got {bottleneck!r}")
    blocks, generator = encoders.blocks(model), encoders.generator(seed, 1)
    if any(site is None for site in _sites(blocks[0], placement)):
        raise ValueError(f"{type(model).__name__} has no one module that is its feed-forward, so no adapter can stand "
                         "beside it: use houlsby or pfeiffer in place of parallel")
    with torch.random.fork_rng(devices=[]):  # nn.Linear draws from the global generator before we redraw
        return [_place(site, block.width, placement, bottleneck, generator)
                for block in blocks for site in _sites(block, placement)]


def _sites(block, placement):
    return {"houlsby": (block.attention_site, block.feedforward_site), "pfeiffer": (block.feedforward_site,),
            "parallel": (block.parallel_site,)}[placement]


def _place(site, width, placement, bottleneck, generator):
    parent, name = site
    adapter = Adapter(width, bottleneck, residual=placement != "parallel", generator=generator)
    adapter.to(next(parameter.device for parameter in parent.parameters()))
    before = getattr(parent, name)
    setattr(parent, name, Beside(before, adapter) if placement == "parallel" else nn.Sequential(before, adapter))
    return adapter
