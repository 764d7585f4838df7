"""The miniature: a small language, tasks in it, and an encoder pre-trained on it. All of it comes with the package."""

from pathlib import Path

ENCODER = Path(__file__).parent / "encoder"
