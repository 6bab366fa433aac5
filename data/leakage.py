"""How well one column alone tells the label: the sign of something known only afterwards."""

import numpy as np
import pandas as pd


def separates(values: pd.Series, label: np.ndarray) -> float:
    """ROC-AUC of a column, or of its being missing, for the label; in either direction."""
    missing = values.isna().to_numpy()
    areas = [_area(missing.astype(float), label), _area(_rates(values, label), label)]
    if not (values.dtype.kind in "OTU" or values.dtype == "str"):
        numbers = pd.Series(values.to_numpy().astype(float)).where(~missing).to_numpy()
        numbers = np.where(missing, np.nanmedian(numbers) if (~missing).any() else 0.0, numbers)
        areas.append(_area(numbers, label))
    return max(areas)


def _rates(values: pd.Series, label: np.ndarray) -> np.ndarray:
    """The label's rate of each value in the other half of the rows, so that no row tells itself."""
    codes, found = pd.factorize(values)  # -1: missing
    half, rates = np.arange(len(codes)) % 2, np.full(len(codes), label.mean())
    for side in (0, 1):
        other, mine = (half != side) & (codes >= 0), (half == side) & (codes >= 0)
        seen = np.bincount(codes[other], minlength=len(found))
        told = np.bincount(codes[other], label[other], minlength=len(found)) / np.maximum(seen, 1)
        mine[mine] = seen[codes[mine]] > 0
        rates[mine] = told[codes[mine]]
    return rates


def _area(score: np.ndarray, label: np.ndarray) -> float:
    ranks = pd.Series(score).rank().to_numpy()
    ones = label.sum()
    area = (ranks[label].sum() - ones * (ones + 1) / 2) / (ones * (len(label) - ones))
    return float(max(area, 1 - area))
