"""Latent tissue -> negative-binomial counts, and the conditional means that no model can beat on average."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_prep.simulation.parameters import CohortParameters
from data_prep.simulation.tissue import Composition, Tissue, open_stream


@dataclass(frozen=True)
class Genes:
    """The cohort's genes: laminar, then marker, then flat. All effects are in natural logs.

    Attributes:
        names: [G].
        base: [G] log share of expression.
        state: [S, G] effect of each state.
        slope: [G] effect of depth (0 to 1, centred).
    """

    names: tuple[str, ...]
    base: np.ndarray
    state: np.ndarray
    slope: np.ndarray


def draw_genes(parameters: CohortParameters, seed: int) -> Genes:
    """Draw the genes that a cohort's patients share."""
    p, random = parameters, open_stream(seed, "genes")
    names = tuple(
        f"{kind}{number + 1:03d}"
        for kind, count in (("LAM", p.laminar_genes), ("MARK", p.marker_genes), ("FLAT", p.flat_genes))
        for number in range(count)
    )
    marker = slice(p.laminar_genes, p.laminar_genes + p.marker_genes)
    effect = np.zeros((p.domains, p.genes))
    raised = random.random((p.domains, p.marker_genes)) < p.marker_share
    effect[:, marker] = raised * np.abs(random.normal(0, p.marker_effect, (p.domains, p.marker_genes)))
    slope = np.zeros(p.genes)
    slope[: p.laminar_genes] = random.normal(0, p.laminar_effect, p.laminar_genes) * np.sqrt(
        12
    )  # sd over uniform depth
    return Genes(names, random.normal(0, p.mean_spread, p.genes), effect, slope)


def compute_shares(genes: Genes, state_effect: np.ndarray, depth: np.ndarray, patient_effect: np.ndarray) -> np.ndarray:
    """Compute [N, G], each gene's expected share of a spot's counts, from [N, G] state effects and [N] depth."""
    log_rate = genes.base + patient_effect + state_effect + np.outer(depth - 0.5, genes.slope)
    rate = np.exp(log_rate)
    return rate / rate.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class Expression:
    """Counts of one slide and what is known of them.

    Attributes:
        counts: [N, G] int32.
        expected: [N, G] float32, E[log1p(CP10K over all genes) | what the image was drawn from]: the MSE oracle.
        noise_free: [N, G] float32, log share of each gene under the spot's domain and depth: the ARI oracle.
    """

    counts: np.ndarray
    expected: np.ndarray
    noise_free: np.ndarray


def draw_expression(
    parameters: CohortParameters, seed: int, patient: int, tissue: Tissue, genes: Genes, composition: Composition
) -> Expression:
    """Draw one slide's counts: a patient shifts depth and every gene, a spot's size is log-normal."""
    p, random = parameters, open_stream(seed, patient, "expression")
    patient_effect = random.normal(0, p.patient_gene_sd, p.genes)
    log_size = (
        np.log(p.median_counts) + random.normal(0, p.patient_counts_sd) + p.cellularity_to_counts * tissue.cellularity
    )
    size_sd = np.sqrt(max(p.log_counts_sd**2 - p.cellularity_to_counts**2, 0.0))

    def draw(shares: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        size = np.exp(log_size + size_sd * generator.standard_normal(len(log_size)))
        rate = generator.gamma(1 / p.overdispersion, p.overdispersion, shares.shape)
        return generator.poisson(shares * size[:, None] * rate)

    shares = compute_shares(genes, genes.state[tissue.state], tissue.depth, patient_effect)
    counts = draw(shares, random).astype(np.int32)

    seen = compute_shares(genes, genes.state[tissue.picture], tissue.depth, patient_effect)
    oracle = open_stream(seed, patient, "oracle")
    expected = np.zeros(seen.shape)
    for _ in range(p.oracle_draws):
        sample = draw(seen, oracle)
        expected += np.log1p(1e4 * sample / np.maximum(sample.sum(axis=1, keepdims=True), 1))
    expected /= p.oracle_draws

    domain_effect = np.log(composition.shares @ np.exp(genes.state))  # the mixture's mean expression
    noise_free = np.log(compute_shares(genes, domain_effect[tissue.domain], tissue.depth, patient_effect))
    return Expression(counts, expected.astype(np.float32), noise_free.astype(np.float32))
