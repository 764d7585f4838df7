"""How rows are drawn: strata, shares that nest, and the part that learning rates are chosen on."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from studykit.tasks.task import Task

SELECTION_SHARE = 0.15  # of train, carved off to choose learning rates on; never the validation set
STRATA = 5  # of a number without classes


def strata(task: Task, labels: npt.ArrayLike) -> np.ndarray:
    """The stratum of each example: its class; or for a number the fifth of its range that it lies in, or of its examples
    where it has no range."""
    labels = np.asarray(labels, dtype=float)
    if task.labels:
        return labels.astype(int)
    if task.range:
        low, high = task.range
        return np.minimum(((labels - low) * STRATA / (high - low)).astype(int), STRATA - 1)
    return np.searchsorted(np.quantile(labels, np.arange(1, STRATA) / STRATA), labels, side="right")


def stratified_order(groups: np.ndarray, seed) -> np.ndarray:
    """A random order of all examples in which every beginning has each group in its share: to within one example for two
    groups, less than two for more.

    So the first 10 % lie inside the first 30 %: fractions nest.
    """
    rng = np.random.default_rng(seed)
    key = np.empty(len(groups))
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        key[rng.permutation(members)] = (np.arange(len(members)) + rng.random(len(members))) / len(members)
    return np.argsort(key, kind="stable")


def subset(task: Task, labels: npt.ArrayLike, fraction: float, seed: int) -> np.ndarray:
    """Indices of a stratified fraction of the examples, in ascending order. Smaller fractions of one seed lie inside
    larger ones.

    >>> task = Task(name="tickets", columns=["text"], labels=["calm", "urgent"])
    >>> a, b = (set(subset(task, [0, 1, 1] * 20, fraction, seed=3)) for fraction in (0.1, 0.3))
    >>> len(a), len(b), a <= b
    (6, 18, True)
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be in (0, 1], got {fraction:g}")
    size = max(1, round(fraction * len(np.asarray(labels))))
    return np.sort(stratified_order(strata(task, labels), [seed, 1])[:size])


def some(task: Task, labels: npt.ArrayLike, rows: np.ndarray, most: int) -> np.ndarray:
    """Of these rows at most so many, stratified, in ascending order, the same on every call; all where ``most`` is 0."""
    if not most or len(rows) <= most:
        return rows
    return rows[np.sort(stratified_order(strata(task, np.asarray(labels)[rows]), [0, 6])[:most])]


def selection_split(task: Task, labels: npt.ArrayLike, fold: int = 0, texts: Sequence = ()) -> tuple[np.ndarray, np.ndarray]:
    """``(rest, selection)``: indices of train without, and of, the part that learning rates are chosen on.

    It is the same for every seed, arm and fraction. Other parts are other folds: the first six hardly share a row. Rows of
    equal ``texts`` stay together. Raises ``ValueError`` where there are too few rows for two parts whose labels differ.
    """
    labels = np.asarray(labels)
    text, firsts = _alike(texts or range(len(labels)))
    cut, turns = round(SELECTION_SHARE * len(firsts)), int(1 / SELECTION_SHARE)
    turn, place = divmod(fold, turns)
    order = np.roll(firsts[stratified_order(strata(task, labels)[firsts], [turn, 2])], -place * cut)
    held = np.isin(text, text[order[:cut]])
    rest, selection = np.flatnonzero(~held), np.flatnonzero(held)
    if len(selection) < 2 or not _differ(labels, rest, selection):
        few = f", but {len(firsts)} different texts" if len(firsts) < len(labels) else ""
        raise ValueError(f"{task.name} has {len(labels)} rows to train on{few}, too few to choose learning rates on "
                         f"{SELECTION_SHARE:.0%} of them, which must hold different labels, and so must the rest: "
                         f"{rows_needed(labels)} rows with these shares of the labels would do")
    return rest, selection


def _alike(texts: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """Of each row which text it has, and the first row of each text."""
    place: dict = {}
    text = np.array([place.setdefault(text, len(place)) for text in texts])
    return text, np.unique(text, return_index=True)[1]


def rows_needed(labels: npt.ArrayLike, share: float = SELECTION_SHARE) -> int:
    """Rows of which that share would hold two different labels, at the shares that labels have now."""
    _, counts = np.unique(np.asarray(labels), return_counts=True)
    others = 1 - counts.max() / counts.sum() if len(counts) > 1 else 0.5  # than the commonest
    return int(np.ceil(max(2, 2 / others) / share))


def held_out(task: Task, labels: npt.ArrayLike, texts: Sequence = (), share: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """``(train, validation)`` indices of a data set that comes in one piece: a stratified fifth is held out, always the
    same one.

    Rows of equal ``texts`` stay together, so that none of validation stands in train; the only row of a class is trained
    on. Where they repeat so much that a fifth of the texts is no fifth of the rows, texts are taken as long as their rows
    fit into it, at most half of them. Raises ``ValueError`` where there are too few rows for two parts whose labels differ.
    """
    labels = np.asarray(labels)
    text, firsts = _alike(texts or range(len(labels)))
    groups = strata(task, labels)
    order = firsts[stratified_order(groups[firsts], [0, 5])]
    if task.labels:
        alone = np.bincount(groups)[groups[order]] == 1
        order = np.concatenate([order[~alone], order[alone]])
    cut, wanted, sizes = round(share * len(order)), share * len(labels), np.bincount(text)[text[order]]
    draws = [order[:cut]]
    if abs(sizes[:cut].sum() - wanted) > wanted / 10:
        draws.insert(0, order[_fitting(sizes, round(wanted), max(cut, len(order) // 2))])
    for chosen in draws:
        held = np.isin(text, text[chosen])
        if _differ(labels, ~held, held):
            return np.flatnonzero(~held), np.flatnonzero(held)
    have, kind = f"{len(labels)} rows", "rows"
    if len(order) < len(labels):
        have, kind = f"{have}, but {len(order)} different text{'s' * (len(order) > 1)}", "different texts"
    raise ValueError(f"{task.name} has {have}, too few to hold {share:.0%} of them out to score on, which must hold "
                     "different labels, and so must the rest: "
                     f"{max(rows_needed(labels, share), len(order) + 1)} {kind} with these shares of the labels would do")


def _differ(labels: np.ndarray, *parts: np.ndarray) -> bool:
    """Whether each of these parts holds two labels or more."""
    return all(len(np.unique(labels[part])) > 1 for part in parts)


def _fitting(sizes: Sequence[int], room: int, most: int) -> list[int]:
    """Places of the first sizes, at most so many, that fit into the room together."""
    places: list[int] = []
    for place, size in enumerate(sizes):
        if size <= room and len(places) < most:
            places.append(place)
            room -= size
    return places
