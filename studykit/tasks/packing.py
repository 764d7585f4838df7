"""Probabilities as records keep them."""

import base64
import zlib

import numpy as np

SMALL = 0.004  # probabilities below are kept by their logarithm, which errs less there than four decimals


def packed(probabilities: np.ndarray) -> dict:
    """Probabilities, shape (n, classes), as text for JSON, compressed: to four decimals, and below ``SMALL`` to a hundredth
    of their logarithm to base ten, which is to 1.2 %, so that a small one is not nought."""
    with np.errstate(divide="ignore"):
        powers = np.minimum(np.rint(-100 * np.log10(probabilities)), 50_000)
    codes = np.where((probabilities > 0) & (probabilities < SMALL), 10_000 + powers, np.rint(probabilities * 10_000))
    text = base64.b85encode(zlib.compress(codes.astype("<u2").tobytes(), 9)).decode()
    return {"shape": list(probabilities.shape), "zlib": text}


def unpacked(kept: dict) -> np.ndarray:
    """``packed`` probabilities again, those of an example adding up to 1. Records of before have all to four decimals."""
    codes = np.frombuffer(zlib.decompress(base64.b85decode(kept["zlib"])), dtype="<u2").reshape(kept["shape"])
    values = np.where(codes > 10_000, 10.0 ** ((10_000.0 - codes) / 100), codes / 10_000)
    total = values.sum(-1, keepdims=True)
    return values / np.where(total > 0, total, 1)
