"""A page with every figure of the studies on record, from what was kept when each was drawn."""

import json

from studykit import paths

HEAD = """# Gallery

Every figure of the studies on record, each with the notebook that drew it. Written by `python -m studykit readme`.
"""


def markdown() -> str:
    """The page ``docs/gallery.md``: a figure under its title, its caption, its notebook. A figure of which no caption was
    kept is left out."""
    parts = [HEAD]
    for file in sorted((paths.REPO / "figures").glob("*/manifest.json")):
        study, figures = file.parent.name, json.loads(file.read_text(encoding="utf-8"))
        drawn = {name: figure for name, figure in figures.items() if "caption" in figure}
        if drawn:
            parts.append(f"## Study {study}: {next(iter(drawn.values()))['encoder']}\n")
        for name, figure in sorted(drawn.items(), key=lambda item: (item[1]["notebook"], item[0])):
            title, notebook = name.replace("_", " ").capitalize(), figure["notebook"]
            caption = figure["caption"][0].upper() + figure["caption"][1:]
            parts.append(f"### {title}\n\n![{title}](../figures/{study}/{name}.png)\n\n*{caption}* "
                         f"[Notebook {notebook[:2]}](../notebooks/{notebook}.ipynb)\n")
    return "\n".join(parts)


def write() -> None:
    (paths.REPO / "docs" / "gallery.md").write_text(markdown(), encoding="utf-8")
