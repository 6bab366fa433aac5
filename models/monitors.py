"""Monitors of quality: served probabilities against matured labels; pure functions."""

from dataclasses import asdict

import numpy as np

from data.params import Params
from data.verdicts import Finding, Verdict
from models.quality import block_bootstrap, log_losses, measure

QUALITY = "quality"


def quality(
    label: np.ndarray, probability: np.ndarray, day: np.ndarray, due: int, params: Params
) -> Finding:
    """Whether the answers were better than their period's own rate would have been.

    Args:
        label, probability, day: of the answers with a matured label, shape (n,).
        due: answers that can have a label.
    """
    judged, limits, gates = len(label), params.monitor, params.gates
    coverage, missing = judged / due if due else 0.0, due - judged
    if judged < limits.minimum_rows or coverage < limits.minimum_label_coverage:
        reason = f"{judged} of {due} answers have a matured label, {missing} are missing: "
        reason += f"too few to judge (at least {limits.minimum_label_coverage:.0%} of them and "
        reason += f"{limits.minimum_rows} are)"
        return unknown_quality(judged, missing, coverage, reason)
    interval = block_bootstrap(
        log_losses(label, probability),
        day,
        gates.bootstrap_samples,
        gates.confidence,
        params.train.seed,
    )
    constant = float(log_losses(label, np.full(judged, label.mean())).mean())
    worse = bool(interval.low > constant)
    reason = f"log loss {interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
    reason += f", {'worse' if worse else 'no worse'} than the period's own rate ({constant:.3f})"
    reason += f", {missing} labels missing" if missing else ""
    evidence = {
        **asdict(measure(label, probability)),
        "interval": asdict(interval),
        "coverage": coverage,
        "missing": missing,
    }
    verdict = Verdict.WARN if worse else Verdict.OK
    return Finding(QUALITY, verdict, interval.value, constant, judged, reason, evidence)


def unknown_quality(judged: int, missing: int, coverage: float, reason: str) -> Finding:
    """Too few labels."""
    evidence = {"coverage": coverage, "missing": missing}
    return Finding(QUALITY, Verdict.UNKNOWN, None, None, judged, reason, evidence)
