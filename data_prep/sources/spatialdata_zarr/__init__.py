"""SpatialData zarr stores."""
