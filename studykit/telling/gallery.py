"""A page with every figure of the studies on record, from what was kept when each was drawn."""

import json

from studykit import paths
from studykit.study import design

HEAD = """# Gallery

Every figure of the studies of real encoders, each with the notebook that drew it. Written by `python -m studykit readme`.
"""


def studies() -> list[str]:
    """The project's own studies of real encoders that have figures."""
    return [name for name in paths.studies() if design.read(paths.params(name)).source != "mini"
            and (paths.REPO / "figures" / name / "manifest.json").is_file()]


def markdown() -> str:
    """The page ``docs/gallery.md``: a figure under its title, its caption, its notebook. A figure of which no caption was
    kept is left out."""
    parts = [HEAD]
    for study in studies():
        figures = json.loads((paths.REPO / "figures" / study / "manifest.json").read_text(encoding="utf-8"))
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
