"""An arm: a thing that a study compares. ``lora r=8`` and ``lora r=64`` are two arms of one method."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, field_validator, model_validator

from studykit import methods
from studykit.methods import options


class Arm(BaseModel):
    """A method with its options, under a label, and the learning rates to try. Its colour and marker come from its place in
    the study."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str = Field(min_length=1, max_length=40)
    method: str = ""
    options: tuple[tuple[str, Any], ...] = ()
    rates: tuple[PositiveFloat, ...] = ()

    @field_validator("options", mode="before")
    @classmethod
    def _frozen(cls, given: Any) -> Any:
        return frozen(given) if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _sound(self) -> "Arm":
        object.__setattr__(self, "method", self.method or self.label)
        methods.check(self.method, dict(self.options))
        if len(set(self.rates)) != len(self.rates):
            raise ValueError(f"the rates of {self.label} must be different, got {', '.join(f'{r:g}' for r in self.rates)}")
        return self

    @property
    def does(self) -> tuple:
        """What makes it another arm: method and options."""
        return self.method, self.options

    @property
    def means(self) -> tuple:
        """What it does, with the options that it leaves alone as they are then: ``adapter`` is one of 64 units."""
        known = options.known(methods.get(self.method))
        return self.method, frozen({name: option.default for name, option in known.items()} | dict(self.options))


def frozen(options: dict) -> tuple:
    """Options as a ``Run`` holds them: sorted pairs, lists as tuples."""
    return tuple(sorted((name, tuple(value) if isinstance(value, list) else value) for name, value in options.items()))
