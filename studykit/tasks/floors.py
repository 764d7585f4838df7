"""Floors: what needs no understanding."""

from studykit.tasks.task import Task, get


def baselines(task: str | Task, data) -> dict[str, float]:
    """Scores on validation of what needs no understanding: a linear model on the lengths of an example's texts, and on the
    share of words that they have in common too. ``{"length": score, "length and overlap": score}``, main metric as it is.
    """
    from sklearn.linear_model import LinearRegression, LogisticRegression

    task, scores = get(task), {}
    for features in ("length", "length and overlap")[: len(task.columns)]:
        seen = {split: [_surface([row[column] for column in task.columns], features) for row in rows]
                for split, rows in data.items()}
        model = LogisticRegression() if task.labels else LinearRegression()
        model.fit(seen["train"], data["train"]["label"][:])
        labels, answers = data["validation"]["label"][:], model.predict(seen["validation"])
        probabilities = model.predict_proba(seen["validation"]) if task.labels else None
        scores[features] = task.scores(labels, answers, probabilities)[task.metric.name]
    return scores


def _surface(texts: list[str], features: str) -> list[float]:
    words = [text.lower().replace(",", "").rstrip(".").split() for text in texts]
    lengths = [len(part) for part in words]
    shared = len(set(words[0]) & set(words[-1])) / max(1, len({*words[0], *words[-1]}))
    return [*lengths, abs(lengths[0] - lengths[-1]), *([shared] if "overlap" in features else [])]
