"""The process over node times."""

import numpy as np
import pytest

from nas.predictors.node_process import WEIGHING_ROWS, node_process
from nas.predictors.surrogates.kernels import Kernel
from nas.predictors.surrogates.layout import Layout
from nas.predictors.surrogates.process import JITTER, Process

KERNELS = (Kernel("linear", ("sizes",)), Kernel("rough", ("sizes",)))
LAYOUT = Layout((("sizes", 3),))


def measured(rows):
    """Features and values of nodes, a few of which depart from the rest."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(rows, 3))
    values = features @ [0.5, 0.3, 0.2] + 0.01 * rng.normal(size=rows)
    values[7 :: rows // 4] += 1.0
    return features, values


def with_equal_noise(process, features, values, new):
    """The posterior mean written out, all rows with one noise."""
    ones = np.ones((len(new), len(features)))
    made = list(zip(process.weights[1:-1], process.kernels, process.rows, strict=True))
    cross = process.weights[0] * ones + sum(
        weight * kernel.between(kernel.rows(LAYOUT, new, ones[:, 0]), rows) for weight, kernel, rows in made
    )
    own = process.weights[0] + sum(weight * kernel.between(rows, rows) for weight, kernel, rows in made)
    own = own + (process.weights[-1] + JITTER) * np.eye(len(features))
    return values.mean() + cross @ np.linalg.solve(own, values - values.mean())


@pytest.mark.parametrize("rows", [120, WEIGHING_ROWS + 50])
def test_all_nodes_count_alike_however_much_they_depart_from_the_rest(rows):
    features, values = measured(rows)
    new = np.random.default_rng(1).normal(size=(20, 3))
    process = node_process(KERNELS, LAYOUT, features, values)
    told = process.predict(LAYOUT, new, np.ones(20))[0]
    np.testing.assert_allclose(told, with_equal_noise(process, features, values, new), rtol=1e-3, atol=1e-3)
    other = Process.fit(KERNELS, LAYOUT, features, values, np.ones(rows))  # which lets them count for less
    apart = other.predict(LAYOUT, new, np.ones(20))[0] - with_equal_noise(other, features, values, new)
    assert np.abs(apart).max() > 0.005
