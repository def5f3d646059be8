#!/bin/sh
# What the image runs: `train`, `publish-archive`, or any other command of glioseg-train.
#
# SageMaker mounts /opt/ml after the image is made, owned by root, so that a user of the image's own could write neither
# model nor checkpoints there. So this begins as root, hands over the folders that are written to, and goes on as
# `glioseg` without a way back. Begun as somebody else (`docker run --user`), it changes nothing.
set -eu

if [ "$(id -u)" = 0 ]; then
    for folder in checkpoints model output; do
        mkdir -p "/opt/ml/$folder"
        chown -R glioseg:glioseg "/opt/ml/$folder"
    done
    exec setpriv --reuid=glioseg --regid=glioseg --init-groups --no-new-privs \
        env HOME=/home/glioseg "$0" "$@"
fi

case ${1-} in
publish-archive)
    shift
    exec /usr/local/bin/publish-archive "$@"
    ;;
*)
    # In the place of this shell, so that SIGTERM arrives where it is waited for.
    exec /usr/local/bin/glioseg-train "$@"
    ;;
esac
