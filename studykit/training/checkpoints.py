"""What a long run keeps on disk while it trains, so that a stop loses ten minutes at most.

A run that goes on from its checkpoint takes the very steps that it would have taken: the file holds all that they depend
on, but for the model's frozen weights and the data, which the run names.
"""

import os
import time
from pathlib import Path

import numpy as np
import torch

from studykit.training import fast

EVERY = 600.0  # seconds between two checkpoints


class Checkpoint:
    """The state of one training on disk, in ``file``; without one nothing is kept. ``features`` are those that a head trains
    on, or ``None``. What is given is changed in place when the training goes on."""

    def __init__(self, file: Path | None, model, optimizer, schedule, outcome, ledger, losses: list, features):
        self.file, self.outcome, self.ledger, self.losses, self.features = file, outcome, ledger, losses, features
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.device = next(iter(self.trained.values())).device
        self.cuda = torch.cuda if self.device.type == "cuda" else None
        self.parts = {"optimizer": optimizer, "schedule": schedule}
        self.before, self.since, self.steps = ledger.seconds["train"], time.monotonic(), 0

    @property
    def due(self) -> bool:
        """Whether it is time for one, and a step was taken since the last."""
        return self.file is not None and len(self.losses) > self.steps and time.monotonic() - self.since > EVERY

    def write(self, begun: float) -> None:
        """Write the state, whole or not at all; where that fails, it is said and training goes on. ``begun`` is what of the
        budget was spent when the losses were last looked at."""
        assert self.file is not None
        temporary = self.file.with_name(f".{self.file.name}.{os.getpid()}.tmp")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as opened:
                torch.save({"begun": begun, **self._state()}, opened)
                opened.flush()
                os.fsync(opened.fileno())
            os.replace(temporary, self.file)
        except (OSError, RuntimeError) as error:  # torch's own, on a full disk
            temporary.unlink(missing_ok=True)
            print(f"the checkpoint {self.file.name} cannot be written ({error}): make room, or a stop loses the run so far")
        self.since, self.steps = time.monotonic(), len(self.losses)

    def read(self) -> float:
        """Go on from the file, if there is one: what of the budget was spent when the losses were last looked at, else 0. A
        file that cannot be read, or is of another model, is left out and said."""
        if self.file is None or not self.file.is_file():
            return 0.0
        try:
            state = torch.load(self.file, map_location="cpu", weights_only=True)
            shapes = {name: values.shape for name, values in state["trained"].items()}
            if shapes != {name: p.shape for name, p in self.trained.items()}:
                raise ValueError("it is of another model")
            if (state["device"], state["features"] is None) != (self.device.type, self.features is None):
                raise ValueError("it was kept on another device, or by another way of training")
        except Exception as error:  # whatever a file that is not sound makes of its reader
            reason, *_ = str(error).splitlines() or [type(error).__name__]
            print(f"left out the checkpoint {self.file.name} ({reason}): its run begins anew")
            return 0.0
        self._go_on(state)
        return state["begun"]

    def _state(self):
        draws, outcome = fast.DRAWS.get(), self.outcome
        curve = [(steps, seconds, None if score is None else float(score)) for steps, seconds, score in outcome.curve]
        return {
            "trained": {name: p.detach() for name, p in self.trained.items()}, "device": self.device.type,
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "seconds": self.ledger.seconds["train"] - self.before, "losses": torch.stack(self.losses),
            "outcome": {"steps": outcome.steps, "step_tokens": outcome.step_tokens, "curve": curve},
            "step_seconds": torch.tensor(np.array(outcome.step_seconds)),
            "features": self.features and (self.features.hidden, torch.from_numpy(self.features.seen)),
            "random": torch.get_rng_state(), "cuda": self.cuda and self.cuda.get_rng_state(self.device),
            "draws": None if draws is None else torch.from_numpy(draws.bit_generator.state["state"]["state"].view(np.int64))}

    @torch.no_grad()
    def _go_on(self, state):
        for name, p in self.trained.items():
            p.copy_(state["trained"][name])
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        self.ledger.seconds["train"] += state["seconds"]
        self.losses.extend(loss.to(self.device) for loss in state["losses"])
        self.steps = len(self.losses)
        for name, value in state["outcome"].items():
            setattr(self.outcome, name, value)
        self.outcome.step_seconds = list(state["step_seconds"].numpy())
        if self.features:
            hidden, seen = state["features"]
            self.features.hidden, self.features.seen = hidden.to(self.device), seen.numpy()
        torch.set_rng_state(state["random"])
        if self.cuda:
            self.cuda.set_rng_state(state["cuda"], self.device)
        if state["draws"] is not None:
            generator = fast.DRAWS.get().bit_generator
            generator.state = {**generator.state, "state": {"state": state["draws"].numpy().view(np.uint64)}}
