"""Gaussian processes on networks: on Weisfeiler-Lehman labels alone, and on everything that is known."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from nas.predictors.surrogates.base import Surrogate, register_surrogate
from nas.predictors.surrogates.kernels import Kernel
from nas.predictors.surrogates.layout import AMOUNTS, CHOICES, COUNTS, LABELS, PROXIES, STAGES, SUMMARY, Layout
from nas.predictors.surrogates.process import Process
from nas.predictors.timings import Array


class ProcessSurrogate(Surrogate):
    """A sum of kernels, weighted by marginal likelihood; see `Process`."""

    kernels: ClassVar[tuple[Kernel, ...]]

    def _fit(self, layout: Layout, features: Array, latent: Array) -> None:
        self._process = Process.fit(self.kernels, layout, features, latent, np.ones(len(latent)))

    def _predict(self, layout: Layout, features: Array) -> tuple[Array, Array]:
        return self._process.predict(layout, features, np.ones(len(features)))

    def out_of_fold(self, features: Array, values: Array, folds: list[Array]) -> tuple[Array, Array]:
        """As for every surrogate, with the weights that all rows chose."""
        means, deviations = np.zeros(len(values)), np.zeros(len(values))
        latent = self._ready()[0].forward(values)
        for fold in folds:
            means[fold], deviations[fold] = self._process.left_out(latent, fold)
        return means, deviations


@register_surrogate("gp", "a Gaussian process on amounts, choices, whole-network numbers, proxies and Weisfeiler-Lehman labels")
class FullProcess(ProcessSurrogate):
    """Linear in amounts, stages, choices and summary, plus smooth and rough functions of the summary, interactions of
    choices (an RBF of one-hot columns is a function of Hamming distance) and the Weisfeiler-Lehman kernel."""

    kernels = (
        Kernel("linear", (COUNTS, AMOUNTS)),
        Kernel("linear", (STAGES,)),
        Kernel("linear", (CHOICES,)),
        Kernel("linear", (SUMMARY,)),
        Kernel("linear", (PROXIES,)),
        Kernel("smooth", (SUMMARY,), 1.0),
        Kernel("smooth", (SUMMARY,), 3.0),
        Kernel("rough", (SUMMARY,), 1.0),
        Kernel("smooth", (CHOICES,), 2.0),
        Kernel("smooth", (PROXIES,), 2.0),
        Kernel("cosine", (LABELS,), 1.0),
    )


@register_surrogate("wl_gp", "a Gaussian process with a Weisfeiler-Lehman kernel")
class LabelProcess(ProcessSurrogate):
    """Ru et al. 2021 (NAS-BOWL), arXiv:2006.07556: graphs are alike as far as their Weisfeiler-Lehman labels are; a linear and
    a cosine kernel on the label counts, of depths that the encoder chose."""

    kernels = (
        Kernel("linear", (LABELS, SUMMARY)),
        Kernel("cosine", (LABELS, SUMMARY), 1.0),
        Kernel("smooth", (LABELS, SUMMARY), 1.0),
    )
