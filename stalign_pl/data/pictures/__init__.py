"""Pictures on the device: resized, recoloured, augmented."""
