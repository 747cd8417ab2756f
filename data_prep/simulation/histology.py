"""Latent tissue -> an H&E image, by a two-stain optical-density model (Beer-Lambert, as in Ruifrok & Johnston 2001)."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, zoom
from scipy.spatial import KDTree

from data_prep.simulation.parameters import CohortParameters
from data_prep.simulation.tissue import PITCH_UM, Tissue, open_stream

HEMATOXYLIN = np.array([0.65, 0.70, 0.29])  # optical density in R, G, B (Ruifrok & Johnston 2001)
EOSIN = np.array([0.07, 0.99, 0.11])
HEMATOXYLIN_STRENGTH, EOSIN_STRENGTH = 0.95, 0.55
LEAF_SPOTS = 16  # of the k-d tree: which of several equally near spots paints a pixel depends on it


def _draw_noise(
    random: np.random.Generator, shape: tuple[int, int], sigma_px: float | tuple[float, float]
) -> np.ndarray:
    field = gaussian_filter(random.standard_normal(shape, dtype=np.float32), sigma_px, mode="wrap")
    return (field - field.mean()) / field.std()


def _draw_coarse_noise(random: np.random.Generator, shape: tuple[int, int], sigma_px: float) -> np.ndarray:
    """Draw slow noise on a grid 16 times coarser and enlarge it."""
    small = _draw_noise(random, (shape[0] // 16 + 2, shape[1] // 16 + 2), sigma_px / 16)
    return np.asarray(zoom(small, 16, order=1))[: shape[0], : shape[1]]


def draw_image(parameters: CohortParameters, seed: int, patient: int, tissue: Tissue) -> np.ndarray:
    """Paint one slide.

    Each pixel takes the state of the nearest spot (borders warped), which sets the density and size of its nuclei, its
    eosin and the length of its fibres; cellularity adds to the density. Off the tissue the slide is nearly white.

    Returns:
        [H, W, 3] uint8 RGB at `um_per_px`.
    """
    p, random, states = parameters, open_stream(seed, patient, "histology"), open_stream(seed, "states")
    count = p.domains
    density = p.nuclei_per_um2 * np.exp(states.normal(0, p.nuclei_density_sd, count))
    size = p.nuclei_size_um * np.exp(states.normal(0, p.nuclei_size_sd, count))
    eosin = np.exp(states.normal(0, p.eosin_sd, count))
    fibre_um = 14.0 * np.exp(states.normal(0, p.fibre_sd, count))

    width, height = (int(side / p.um_per_px) for side in tissue.size_um)
    shape = (height, width)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32) * p.um_per_px
    warp = 18.0
    where = np.stack(
        [columns + warp * _draw_coarse_noise(random, shape, 20), rows + warp * _draw_coarse_noise(random, shape, 20)],
        axis=-1,
    )
    distance, nearest = KDTree(tissue.xy_um, leafsize=LEAF_SPOTS).query(where.reshape(-1, 2))
    state = tissue.picture[nearest].reshape(shape)
    on_tissue = np.clip(1.15 - distance.reshape(shape) / (0.9 * PITCH_UM), 0, 1) ** 0.5
    cellularity = gaussian_filter(tissue.cellularity[nearest].reshape(shape), 0.3 * PITCH_UM / p.um_per_px)

    rate = density[state] * np.exp(p.cellularity_sd * cellularity) * p.um_per_px**2
    hematoxylin = np.zeros(shape, dtype=np.float32)
    for one in range(count):  # nuclei of a state have one size
        radius = size[one] / p.um_per_px / 2
        seeds = random.poisson(np.where(state == one, rate, 0)).astype(np.float32)
        blob = gaussian_filter(seeds, radius * 0.8)
        hematoxylin += np.clip(blob * 2 * np.pi * (radius * 0.8) ** 2, 0, 1.5)
    fibres = np.zeros(shape, dtype=np.float32)
    for one in range(count):
        texture = _draw_noise(random, shape, (1.5, fibre_um[one] / p.um_per_px / 2))
        fibres = np.where(state == one, texture, fibres)

    tone = 1 + p.tone_noise * _draw_coarse_noise(random, shape, 250)
    eosin_density = eosin[state] * (1 + 0.25 * fibres) * tone * on_tissue
    hematoxylin = (0.35 + hematoxylin) * tone * on_tissue
    strength = np.exp(random.normal(0, p.stain_strength_sd, 2))
    vectors = np.stack([HEMATOXYLIN, EOSIN]) + random.normal(0, p.stain_angle_sd, (2, 3))
    vectors = np.clip(vectors, 0.02, None) / np.linalg.norm(vectors, axis=1, keepdims=True)
    optical = (
        hematoxylin[..., None] * (HEMATOXYLIN_STRENGTH * strength[0] * vectors[0])
        + eosin_density[..., None] * (EOSIN_STRENGTH * strength[1] * vectors[1])
        + 0.02
    )
    pixels = 245 * np.exp(-optical) + random.normal(0, p.pixel_noise, (*shape, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)
