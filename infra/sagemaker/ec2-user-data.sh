#!/bin/bash
# Trains on a plain EC2 instance, as user data: the same image, the same folders, the same exit codes as on SageMaker.
#
# The instance gets data and earlier checkpoints from S3, trains, saves checkpoints every minute and at the notice of a
# spot interruption, uploads model and log, and ends, whether it went well or not. Started again with the same JOB it goes
# on from the last checkpoint. Unlike SageMaker's isolated job it may publish by itself: give MODELS_URI. It ends after
# MAX_MINUTES at the latest.
#
# Needs an image of the AWS Deep Learning Base AMI (Ubuntu or Amazon Linux, with NVIDIA driver 580 or later, Docker and
# its NVIDIA runtime, the AWS CLI) or, for the image without CUDA, any with Docker and the AWS CLI; an instance profile
# with the rights of infra/retraining.yaml's Ec2Policy; and `--instance-initiated-shutdown-behavior terminate`.
#
# Fill in the lines up to the next comment; infra/RETRAINING.md has a whole command.
set -uo pipefail

REGION=us-east-1
IMAGE=123456789012.dkr.ecr.us-east-1.amazonaws.com/glioseg-train:0123456789ab
JOB=glioseg-ec2-1
TRAINING_URI=s3://glioseg-results-123456789012-us-east-1/labelled/
JOB_URI=s3://glioseg-training-123456789012-us-east-1/ec2/$JOB
# Empty: the model is uploaded below JOB_URI and not published.
MODELS_URI=
# All values are texts, as on SageMaker; "publish" is told by MODELS_URI.
HYPERPARAMETERS='{"epochs": "24", "device": "auto"}'
# The instance ends after so many minutes whatever happens; training is told to stop ten minutes earlier.
MAX_MINUTES=360

# GLIOSEG_ML_ROOT and SHUTDOWN are for trying this on another machine.
root=${GLIOSEG_ML_ROOT:-/opt/ml}
shutdown=${SHUTDOWN:-shutdown}
log=$root/output/job.log
status=1

say() { echo "$(date --utc +%FT%TZ) $*"; }

# Checkpoints are replaced by renaming, so that a copy is always of a whole one.
save_checkpoints() { aws s3 sync --only-show-errors "$root/checkpoints" "$JOB_URI/checkpoints"; }

# Whatever happens, what there is goes to S3 and the instance stops costing money.
# shellcheck disable=SC2329 # The trap calls it.
finish() {
    trap - EXIT
    save_checkpoints || say "checkpoints could not be saved"
    if [[ $status == 0 ]]; then
        # Without a leading `./`, like the archives of SageMaker.
        (cd "$root/model" && tar -czf "$root/output/model.tar.gz" -- *) &&
            aws s3 cp --only-show-errors "$root/output/model.tar.gz" "$JOB_URI/output/model.tar.gz" || status=1
    fi
    say "ended with $status"
    aws s3 cp --only-show-errors --recursive "$root/output" "$JOB_URI/output" --exclude model.tar.gz
    $shutdown -P now
    exit "$status"
}

# A token is asked for each time: it is one request in five seconds to the instance itself.
spot_notice() {
    local token
    token=$(curl --silent --fail --max-time 2 --request PUT --header 'X-aws-ec2-metadata-token-ttl-seconds: 60' \
        http://169.254.169.254/latest/api/token) &&
        curl --silent --fail --max-time 2 --output /dev/null --header "X-aws-ec2-metadata-token: $token" \
            http://169.254.169.254/latest/meta-data/spot/instance-action
}

mkdir -p "$root"/{checkpoints,model,output,input/config,input/data/training}
trap finish EXIT
exec > >(tee -a "$log") 2>&1
say "$JOB: $IMAGE"
# The system keeps this whatever becomes of the script. Nothing else bounds what the instance costs.
if ! $shutdown -P "+$MAX_MINUTES"; then
    say "the end of the instance could not be set"
    exit
fi

hyperparameters() {
    local publish=false
    [[ -z $MODELS_URI ]] || publish=true
    python3 -c 'import json, sys; print(json.dumps(json.loads(sys.argv[1]) | {"publish": sys.argv[2]}))' \
        "$HYPERPARAMETERS" "$publish"
}

prepare() {
    hyperparameters >"$root/input/config/hyperparameters.json" || return
    cat >"$root/input/config/inputdataconfig.json" <<'JSON' || return
{"training": {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}}
JSON
    cat >"$root/input/config/resourceconfig.json" <<'JSON' || return
{"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"}
JSON
    # With --delete: a patient who was withdrawn is not trained on because an earlier copy is still there.
    aws s3 sync --only-show-errors --delete "$TRAINING_URI" "$root/input/data/training" || return
    aws s3 sync --only-show-errors "$JOB_URI/checkpoints" "$root/checkpoints" || return
    aws ecr get-login-password --region "$REGION" |
        docker login --username AWS --password-stdin "${IMAGE%%/*}" || return
    docker pull --quiet "$IMAGE"
}

if ! prepare; then
    say "data, checkpoints or the image could not be fetched"
    exit
fi

options=(--volume "$root:/opt/ml" --env "TRAINING_JOB_NAME=$JOB" --env "AWS_REGION=$REGION")
if command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null; then
    options+=(--gpus all)
fi
if [[ -n $MODELS_URI ]]; then
    options+=(--env "MODELS_URI=$MODELS_URI")
fi
left=$((MAX_MINUTES * 60 - SECONDS - 600))
if ((left <= 0)); then
    say "no time is left for training: MAX_MINUTES is $MAX_MINUTES"
    exit
fi
# Docker hands SIGTERM on to the job, which then ends by itself; its last whole epoch is saved already.
# In the network of the host: the instance's credentials are one hop away from it, and two from a container's own.
timeout --preserve-status --kill-after=120 "$left" \
    docker run --name "$JOB" --network host "${options[@]}" "$IMAGE" train &
training=$!

ticks=0
while kill -0 "$training" 2>/dev/null; do
    sleep 5
    if spot_notice; then
        say "the instance is about to be taken back"
        # It is gone two minutes after the notice: this leaves half a minute to upload what was saved.
        docker stop -t 90 "$JOB" >/dev/null
        break
    fi
    ticks=$((ticks + 1))
    if ((ticks % 12 == 0)); then
        save_checkpoints || say "checkpoints could not be saved; the next attempt is in a minute"
    fi
done
wait "$training"
status=$?
exit
