#!/bin/sh
# Publishes the model of a training job from the archive that SageMaker made of it:
#
#     publish-archive s3://BUCKET [OPTIONS of glioseg-train publish]
#
# For jobs whose container reaches no network. Below GLIOSEG_ML_ROOT (/opt/ml) it takes
#     processing/input/model/model.tar.gz    the model and the split that it was trained by
#     processing/input/training/             the labelled slices, which both models are scored on anew
# and leaves what was decided in output/message, which SageMaker shows as the job's exit message.
set -eu

if [ $# -lt 1 ]; then
    echo "usage: publish-archive s3://BUCKET [OPTIONS of glioseg-train publish]" >&2
    exit 2
fi
to=$1
shift

root=${GLIOSEG_ML_ROOT:-/opt/ml}
archive=$root/processing/input/model/model.tar.gz
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# SageMaker cuts a message off at 1,024 bytes, and fails a job for one that ends within a character. What was decided is
# done by then: that it cannot be told makes no failure of it.
leave_message() {
    if ! { mkdir -p "$root/output" && head -c 1024 "$work/said" | iconv -c -f UTF-8 -t UTF-8 >"$root/output/message"; }; then
        echo "warning: $root/output/message cannot be written" >&2
    fi
}

if ! tar -xzf "$archive" -C "$work" --no-same-owner model.onnx split.json 2>"$work/said"; then
    echo "$archive holds no model.onnx and split.json that can be read" >>"$work/said"
    cat "$work/said" >&2
    leave_message
    exit 1
fi
status=0
glioseg-train publish "$work/model.onnx" "$to" \
    --data "$root/processing/input/training" --split "$work/split.json" --corrupt-slices skip "$@" \
    >"$work/said" 2>&1 || status=$?
cat "$work/said"
leave_message
exit "$status"
