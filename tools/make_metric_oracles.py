"""Metrics of tasks as scikit-learn and SciPy compute them: writes tests/data/oracle/metrics.json.

Needs numpy, scipy and scikit-learn."""

import json
import pathlib
import warnings

import numpy as np
from scipy import stats
from sklearn import metrics

OUT = pathlib.Path(__file__).parent.parent / "tests/data/oracle/metrics.json"


def regress(draw, count, outputs, ties):
    target = draw.normal(size=(count, outputs))
    answer = 0.7 * target + 0.5 * draw.normal(size=(count, outputs))
    if ties:
        target, answer = np.round(target), np.round(answer, 1)
    target, answer = target.astype(np.float32), answer.astype(np.float32)
    wide, right = answer.astype(np.float64), target.astype(np.float64)
    columns = range(outputs)
    return {
        "task": "regress",
        "outputs": outputs,
        "answers": answer.tolist(),
        "targets": target.tolist(),
        "loss": metrics.mean_squared_error(right, wide),
        "values": [
            metrics.mean_squared_error(right, wide),
            metrics.r2_score(right, wide),
            float(np.mean([stats.pearsonr(wide[:, c], right[:, c])[0] for c in columns])),
            float(np.mean([stats.spearmanr(wide[:, c], right[:, c])[0] for c in columns])),
        ],
    }


def multilabel(draw, count, outputs, ties):
    target = (draw.random((count, outputs)) < np.linspace(0.1, 0.6, outputs)).astype(np.float32)
    target[:, -1] = 0  # a class that never occurs
    answer = draw.normal(size=(count, outputs)) + 1.5 * target - 0.7
    answer = (np.round(answer) if ties else answer).astype(np.float32)
    wide, right = answer.astype(np.float64), target.astype(int)
    said = (wide >= 0).astype(int)
    occurring = [c for c in range(outputs) if right[:, c].any()]
    return {
        "task": "multilabel",
        "outputs": outputs,
        "answers": answer.tolist(),
        "targets": target.tolist(),
        "loss": float(np.mean(np.logaddexp(0, wide) - wide * right)),
        "values": [
            metrics.f1_score(right, said, average="macro", zero_division=0),
            metrics.f1_score(right, said, average="micro", zero_division=0),
            float(np.mean([metrics.average_precision_score(right[:, c], wide[:, c]) for c in occurring])),
        ],
    }


def classify(draw, count, outputs):
    answer = draw.normal(size=(count, outputs)).astype(np.float32)
    target = draw.integers(outputs, size=count)
    wide = answer.astype(np.float64)
    order = range(outputs)
    return {
        "task": "classify",
        "outputs": outputs,
        "answers": answer.tolist(),
        "targets": target.tolist(),
        "loss": metrics.log_loss(target, np.exp(wide - np.logaddexp.reduce(wide, 1)[:, None]), labels=list(order)),
        "values": [
            metrics.top_k_accuracy_score(target, wide, k=1, labels=list(order)),
            metrics.top_k_accuracy_score(target, wide, k=5, labels=list(order)),
        ],
    }


def main():
    warnings.simplefilter("ignore")
    draw = np.random.default_rng(5)
    cases = [
        classify(draw, 40, 7),
        regress(draw, 40, 1, False),
        regress(draw, 30, 3, True),
        multilabel(draw, 40, 5, False),
        multilabel(draw, 30, 4, True),
    ]
    OUT.write_text(json.dumps(cases) + "\n")


if __name__ == "__main__":
    main()
