#!/usr/bin/env bash
# Build a shard set on a cluster: an array of tasks, each a share of the slides, then one job that builds what they
# left and writes the manifest. Safe to call again: what is built stays.
#   bash slurm/data_prep.sh CONFIG SHARDS [TASKS, default 16]
set -euo pipefail
cd "$(dirname "$0")/.."
config=${1:?usage: bash slurm/data_prep.sh CONFIG SHARDS [TASKS]}
shards=${2:?usage: bash slurm/data_prep.sh CONFIG SHARDS [TASKS]}
tasks=${3:-16}

array=$(sbatch --parsable --array="0-$((tasks - 1))" --output='%x-%A_%a.out' \
    slurm/data_prep.sbatch "$config" "$shards" "$tasks")
array=${array%%;*} # a federation adds ;CLUSTER
last=$(sbatch --parsable --dependency="afterany:$array" slurm/data_prep.sbatch "$config" "$shards")
echo "array job $array builds the slides, job ${last%%;*} finishes $shards"
