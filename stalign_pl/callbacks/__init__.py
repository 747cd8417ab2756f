"""Lightning callbacks: every epoch's figures, the run's report, what `predict` writes."""

from stalign_pl.callbacks.damaged_samples import DamagedSamples
from stalign_pl.callbacks.data_record import DataRecord
from stalign_pl.callbacks.fresh_run import FreshRun
from stalign_pl.callbacks.gene_prediction import GenePredictionCallback
from stalign_pl.callbacks.last_checkpoint import AtomicCheckpointIO, LastCheckpoint
from stalign_pl.callbacks.moved_run import MovedRun
from stalign_pl.callbacks.non_finite import NonFiniteSteps
from stalign_pl.callbacks.plan_record import PlanRecord
from stalign_pl.callbacks.prediction_writer import PredictionWriter
from stalign_pl.callbacks.preemption import Preemption
from stalign_pl.callbacks.run_config_file import RunConfigFile
from stalign_pl.callbacks.run_report import RunReport
from stalign_pl.callbacks.spatial_domains import SpatialDomainCallback
from stalign_pl.callbacks.throughput import Throughput
from stalign_pl.callbacks.weight_average import EmaConfig, WeightAverage

__all__ = [
    "AtomicCheckpointIO",
    "DamagedSamples",
    "DataRecord",
    "EmaConfig",
    "FreshRun",
    "GenePredictionCallback",
    "LastCheckpoint",
    "MovedRun",
    "NonFiniteSteps",
    "PlanRecord",
    "PredictionWriter",
    "Preemption",
    "RunConfigFile",
    "RunReport",
    "SpatialDomainCallback",
    "Throughput",
    "WeightAverage",
]
