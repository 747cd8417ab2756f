"""Every number of the simulated cohort, fixed before the first model was fitted to it.

A generator written beside a model can always be tuned until the model wins. So the numbers stand here alone, each
beside what it imitates, measured on public sections with no model involved:

| quantity                                         | 151673       | 151507 / 151509   | CRC          | her2st C / B4   |
| ------------------------------------------------ | ------------ | ----------------- | ------------ | --------------- |
| genes in the file                                | 580          | 100               | 36,601       | ~15,700         |
| median counts a spot                             | 716          | 6                 | 748          | ~9,500 / 648    |
| sd of log counts over spots                      | .57          | .66               | 1.2          | .78-1.13 / 1.5  |
| share of zeros                                   | .83          | .95               | .98          | .74 / .91       |
| overdispersion of counts (quartiles over genes)  | .05 .09 .33  | -.05 .00 .04      | .08 .16 .28  | .01 .13 .38     |
| mean RGB under the tissue, by patient            | 146 110 150  | 144 124 152       | 140 137 160  | 142 128 170 (C) |
| sd of a spot's mean RGB within the section       | 10 15 8      | 8 13 6            | 10 13 7      | 32 29 22        |
| share of R, G, B variance explained by the layer | .02 .36 .06  | .14 .45 .06       |              |                 |
| ARI, PCA-30, KMeans / tied mixture               | .27 / .27    | .02 / .02         |              |                 |
| ... smoothed once over 7 spots                   | .41 / .47    | .10-.13 / .09-.12 |              |                 |
| ... smoothed twice                               | .50 / .53    | .14-.17 / .15-.16 |              |                 |
| ARI, raw niche pixels                            | .20 / .14    |                   |              |                 |
| ARI, coordinates alone                           | .27 / .24    | .12-.23 / .13-.24 |              |                 |

(151673's 580 genes were chosen by others as spatially variable, which flatters its rows; the 100 of donor 1 are a
near-random subset. The cohort aims between the two.) What the cohort itself reaches stands in `benchmarks/`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CohortParameters:
    """Sizes in spots or micrometres, effects in natural-log units."""

    # The cohort. Patients are numbered; which of them train is the config's choice.
    patients: int = 10
    columns: int = 28  # of the hexagonal array, 100 um apart: 2.8 mm
    rows: int = 30
    tissue_share: float = 0.85  # of the array's spots that lie on tissue
    um_per_px: float = 2.0  # a spot of 27.5 px; the paper's patches are 28 px

    # Domains: `layers` bands along a bent axis, and `patchy` kinds of islands laid over them.
    layers: int = 5
    patchy: int = 3
    islands: int = 2  # of each patchy kind
    island_um: float = 420.0  # radius
    boundary_noise_um: float = 130.0  # amplitude of the waves in every border

    # Every spot has a state. A domain with a signature of its own has its own state; two domains of a pair share two
    # states and differ in how often each occurs, so that one spot says little and its neighbourhood says much.
    neighbourhood_only: float = 0.5  # share of the domains that come in such pairs
    pair_mix: float = 0.75  # share of the commoner state in a domain of a pair
    stray_states: float = 0.08  # share of spots whose state is drawn at random: infiltrating cells, mixed spots

    # Genes.
    laminar_genes: int = 60
    marker_genes: int = 120
    flat_genes: int = 320
    marker_share: float = 0.35  # of the states in which a marker gene is raised
    marker_effect: float = 0.9  # sd of a marker's log fold change between states
    laminar_effect: float = 0.6  # sd of a laminar gene's slope over the depth of the tissue
    mean_spread: float = 1.8  # sd of log mean expression over genes (deciles of 151673: .14, .98, 7.1 counts)
    overdispersion: float = 0.15  # negative binomial: variance = mean + overdispersion * mean^2
    median_counts: float = 700.0
    log_counts_sd: float = 0.55  # over spots of a section
    cellularity_to_counts: float = 0.3  # log counts a unit of cellularity: what the image knows of a spot's depth
    patient_counts_sd: float = 0.5  # of log depth, between patients
    patient_gene_sd: float = 0.25  # of log expression of each gene, between patients

    # Histology. A state has its own density and size of nuclei and its own eosin texture.
    image_informative: float = 1.0  # share of spots whose picture is drawn from their state; the rest from a random one
    nuclei_per_um2: float = 0.0035
    nuclei_density_sd: float = 0.35  # of log density, between states
    nuclei_size_um: float = 5.0
    nuclei_size_sd: float = 0.15  # of log size, between states
    eosin_sd: float = 0.08  # of log eosin, between states
    fibre_sd: float = 0.35  # of log fibre length, between states
    cellularity_sd: float = 0.45  # of log density, spot to spot, spatially smooth
    tone_noise: float = 0.10  # slow unevenness of stain and thickness over the slide
    stain_angle_sd: float = 0.06  # patient's shift of the two stain vectors
    stain_strength_sd: float = 0.18  # patient's shift of log stain strength
    pixel_noise: float = 4.0  # grey levels

    oracle_draws: int = 128  # draws of the counts behind each conditional mean

    @property
    def domains(self) -> int:
        return self.layers + self.patchy

    @property
    def genes(self) -> int:
        return self.laminar_genes + self.marker_genes + self.flat_genes
