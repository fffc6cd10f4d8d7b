#!/bin/sh
# The demo, as `make demo` runs it: AdamW and CrAM+-Multi on the synthetic set, then one table and one picture.
# Usage: sh configs/squad/demo.sh FOLDER      (FOLDER is made; an earlier one is kept aside)
set -eu
out="$1"
if [ -e "$out" ]; then
    aside="$out.$(date +%Y%m%d-%H%M%S)"
    mv "$out" "$aside"
    echo "The earlier $out is now $aside."
fi
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
began=$(date +%s)
python -m cram_hf.demo data --out "$out/data"
python run_squad.py configs/squad/demo_adamw.yaml --train_file "$out/data/train.json" \
    --validation_file "$out/data/dev.json" --output_dir "$out/adamw"
python run_squad.py configs/squad/demo_cram_plus_multi.yaml --train_file "$out/data/train.json" \
    --validation_file "$out/data/dev.json" --output_dir "$out/cram_plus_multi" --baseline "$out/adamw/results.json" \
    --export topk:0.7
echo "Done in $(($(date +%s) - began)) s. Look at $out/cram_plus_multi/curve.png."
