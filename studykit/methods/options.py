"""Whether a method's options are sound, before there is a model: names and kinds come from its function's signature."""

import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence

from studykit import checks


def known(method: Callable) -> dict[str, inspect.Parameter]:
    """The options of a method by name: all its parameters but the model and the init seed."""
    _, *parameters = inspect.signature(method).parameters.values()
    return {parameter.name: parameter for parameter in parameters if parameter.name != "seed"}


def check(method: Callable, options: Mapping) -> None:
    """Raise ``ValueError`` for an option that the method has not, or one of another kind or out of range."""
    name, own = method.__name__, known(method)
    if unknown := options.keys() - own.keys():
        raise ValueError(f"{name} has no option {', '.join(sorted(map(str, unknown)))}: "
                         + (f"choose from {', '.join(own)}" if own else "it takes none"))
    for option, value in options.items():
        if option == "dropout":  # the only number that may be 0
            _share(f"dropout of {name}", value)
        else:
            given = list(value) if isinstance(value, tuple) else value
            checks.value(f"{option} of {name}", given, _kind(own[option].annotation))


def _kind(annotation):
    """The annotation as ``checks.value`` takes it: what is a sequence here is a list in YAML."""
    if isinstance(annotation, types.UnionType):
        kind, nothing = typing.get_args(annotation)
        return _kind(kind) | nothing
    return list if typing.get_origin(annotation) is Sequence else annotation


def _share(name, value):
    if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value) or not 0 <= value < 1:
        raise ValueError(f"{name} must be a number from 0 to less than 1, got {value!r:.80}")
