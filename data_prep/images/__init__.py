"""A slide's image by region: plain images decoded once, tiled ones read where they are asked for."""

from data_prep.images.opening import open_image
from data_prep.images.pixels import Level, Pixels, choose_level, make_thumbnail

__all__ = ["Level", "Pixels", "choose_level", "make_thumbnail", "open_image"]
