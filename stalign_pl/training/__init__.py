"""The LightningModule and what one step of training needs."""
