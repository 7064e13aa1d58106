#!/bin/sh
# The whole of RLHF on a file of real human comparisons, as it is, with a small model made from nothing.
#
#   examples/hh.sh hh-harmless.jsonl.gz runs/hh [more flags for every stage, such as --records.limit 200]
#
# docs/real-preferences.md says what it shows, and gives the same commands for a model of the hub.
set -eu
data=$1 out=$2
shift 2
here=$(dirname "$0")
common="--records.max-length 512 --run.no-tensorboard --memory.micro-batch-tokens 2048"

heedful sft --model "$here/hh_model.yaml" --data "$data" --out "$out/sft" $common \
    --optimiser.learning-rate 2e-3 --batch-size 16 "$@"
heedful reward --model "$out/sft" --data "$data" --out "$out/reward" $common \
    --optimiser.learning-rate 3e-4 --batch-size 32 --epochs 2 --records.held-out 0.2 "$@"
heedful dpo --model "$out/sft" --data "$data" --out "$out/dpo" $common \
    --optimiser.learning-rate 1e-4 --batch-size 32 "$@"
heedful ppo --model "$out/sft" --reward "$out/reward" --data "$data" --out "$out/ppo" $common \
    --optimiser.learning-rate 1e-4 --critic-learning-rate 1e-4 --steps 10 \
    --rollout.prompts-per-step 32 --rollout.max-new-tokens 48 "$@"
