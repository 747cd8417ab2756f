"""The latent tissue of one slide: where its spots are, and the domain, state, depth and cellularity of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from data_prep.simulation.parameters import CohortParameters

PITCH_UM = 100.0


def open_stream(seed: int, *names: int | str) -> np.random.Generator:
    """Make a generator that depends on the cohort's seed and on what is drawn, never on what was drawn before."""
    return np.random.default_rng(
        [seed, *(n if isinstance(n, int) else int.from_bytes(n.encode(), "big") for n in names)]
    )


@dataclass(frozen=True)
class Composition:
    """What the domains of a cohort are made of.

    Attributes:
        names: [D] of the domains.
        shares: [D, S] share of each state in each domain; rows sum to 1.
    """

    names: tuple[str, ...]
    shares: np.ndarray


@dataclass(frozen=True)
class Tissue:
    """The latent of one slide's N spots.

    Attributes:
        grid: [N, 2] int32, Visium's (array_col, array_row).
        xy_um: [N, 2] spot centres in micrometres from the image's corner.
        domain: [N] index into the composition's names.
        state: [N] state index: what the counts are drawn from.
        picture: [N] state index that the image is drawn from (differs where the image is not informative).
        depth: [N] in [0, 1], along the layers' axis.
        cellularity: [N] spatially smooth, mean 0, sd about 1.
        size_um: (width, height) of the image.
    """

    grid: np.ndarray
    xy_um: np.ndarray
    domain: np.ndarray
    state: np.ndarray
    picture: np.ndarray
    depth: np.ndarray
    cellularity: np.ndarray
    size_um: tuple[float, float]


def compose(parameters: CohortParameters) -> Composition:
    """Give each domain its states; `neighbourhood_only` of the domains are paired off, in a fixed order."""
    layers = [f"layer{number + 1}" for number in range(parameters.layers)]
    patches = [f"island{number + 1}" for number in range(parameters.patchy)]
    names = layers + patches
    candidates = [(1, 2), (parameters.layers, parameters.layers + 1), (3, 4), (0, len(names) - 1)]
    wanted = round(parameters.neighbourhood_only * len(names) / 2)
    pairs = [pair for pair in candidates if max(pair) < len(names)][:wanted]
    shares = np.eye(len(names))  # one state a domain; a pair mixes its two
    for one, other in pairs:
        mix = parameters.pair_mix
        shares[one, [one, other]] = mix, 1 - mix
        shares[other, [one, other]] = 1 - mix, mix
    return Composition(tuple(names), shares)


def draw_smooth_field(
    random: np.random.Generator, xy_um: np.ndarray, size_um: tuple[float, float], scale_um: float
) -> np.ndarray:
    """Draw a smooth random field with standard deviation about 1, read at positions `xy_um` [N, 2]."""
    step = 25.0
    shape = tuple(int(side / step) + 3 for side in reversed(size_um))
    field = gaussian_filter(random.standard_normal(shape), scale_um / step, mode="reflect")
    field = (field - field.mean()) / field.std()
    return map_coordinates(field, (xy_um[:, ::-1] / step).T, order=1, mode="nearest")


def draw_tissue(parameters: CohortParameters, seed: int, patient: int) -> Tissue:
    """Draw one slide of one patient."""
    p, random = parameters, open_stream(seed, patient, "tissue")
    column, row = np.meshgrid(np.arange(2 * p.columns), np.arange(p.rows))
    grid = np.stack([column, row], axis=-1)[(column + row) % 2 == 0]
    margin = 2 * PITCH_UM
    xy_um = grid * [PITCH_UM / 2, PITCH_UM * np.sqrt(3) / 2] + margin
    size_um = (p.columns * PITCH_UM + 2 * margin, p.rows * PITCH_UM * np.sqrt(3) / 2 + 2 * margin)

    centre = np.array(size_um) / 2
    radius = np.linalg.norm((xy_um - centre) / centre, axis=1) + 0.12 * draw_smooth_field(random, xy_um, size_um, 400)
    inside = radius <= np.quantile(radius, p.tissue_share)
    grid, xy_um = grid[inside].astype(np.int32), xy_um[inside]

    angle = random.uniform(0, 2 * np.pi)
    waves = p.boundary_noise_um * draw_smooth_field(random, xy_um, size_um, 300)
    bend = random.normal(0, 1.2e-4) * ((xy_um - centre) @ [-np.sin(angle), np.cos(angle)]) ** 2
    along = (xy_um - centre) @ [np.cos(angle), np.sin(angle)] + waves + bend
    depth = (along - along.min()) / np.ptp(along)
    widths = random.dirichlet(np.full(p.layers, 12.0))
    borders = np.quantile(depth, np.cumsum(widths)[:-1])
    domain = np.searchsorted(borders, depth)
    for kind in range(p.patchy):
        for _ in range(p.islands):
            middle = xy_um[random.integers(len(xy_um))]
            reach = p.island_um * random.uniform(0.75, 1.25) + 0.6 * waves
            domain[np.linalg.norm(xy_um - middle, axis=1) < reach] = p.layers + kind

    shares = compose(p).shares
    state = np.array([random.choice(shares.shape[1], p=shares[d]) for d in domain])
    stray = random.random(len(state)) < p.stray_states
    state = np.where(stray, random.integers(shares.shape[1], size=len(state)), state)
    uninformed = random.random(len(state)) >= p.image_informative
    picture = np.where(uninformed, random.integers(shares.shape[1], size=len(state)), state)
    cellularity = draw_smooth_field(random, xy_um, size_um, 60)
    return Tissue(grid, xy_um, domain, state, picture, depth, cellularity, size_um)
