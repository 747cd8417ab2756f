"""Lightning callbacks: every epoch's figures, the run's report, what `predict` writes."""

from stalign_pl.callbacks.damaged_samples import DamagedSamples
from stalign_pl.callbacks.gene_prediction import GenePredictionCallback
from stalign_pl.callbacks.non_finite import NonFiniteSteps
from stalign_pl.callbacks.prediction_writer import PredictionWriter
from stalign_pl.callbacks.spatial_domains import SpatialDomainCallback
from stalign_pl.callbacks.start_record import DataRecord, PlanRecord
from stalign_pl.callbacks.throughput import Throughput
from stalign_pl.callbacks.weight_average import EmaConfig, WeightAverage

__all__ = [
    "DamagedSamples",
    "DataRecord",
    "EmaConfig",
    "GenePredictionCallback",
    "NonFiniteSteps",
    "PlanRecord",
    "PredictionWriter",
    "SpatialDomainCallback",
    "Throughput",
    "WeightAverage",
]
