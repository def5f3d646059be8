#!/usr/bin/env bash
# Builds the training image and pushes it to ECR:
#
#     infra/sagemaker/build-and-push.sh [--cpu] [--dry-run] REPOSITORY [TAG]
#
# REPOSITORY is the address in the outputs of infra/retraining.yaml, such as
# 123456789012.dkr.ecr.us-east-1.amazonaws.com/glioseg-train. TAG is the commit where it is not given, with `-cpu` after
# it for the image without CUDA; it is the stack's parameter ImageTag. A tag is pushed once: the repository takes no other
# image by the same. --dry-run says what would be done.
#
# Needs Docker with BuildKit, the AWS CLI with credentials that may push, and git.
set -euo pipefail
cd "$(dirname "$0")/../.."

usage() {
    echo "usage: infra/sagemaker/build-and-push.sh [--cpu] [--dry-run] REPOSITORY [TAG]" >&2
    exit 2
}

fail() {
    echo "error: $*" >&2
    exit 1
}

dockerfile=infra/sagemaker/Dockerfile
suffix=
run=()
while [[ ${1-} == --* ]]; do
    case $1 in
    --cpu)
        dockerfile=infra/sagemaker/Dockerfile.cpu
        suffix=-cpu
        ;;
    --dry-run) run=(echo) ;;
    *) usage ;;
    esac
    shift
done
[[ $# -ge 1 && $# -le 2 ]] || usage

readonly repository=$1
readonly address='^[0-9]{12}\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?/[a-z0-9][a-z0-9._/-]*$'
[[ $repository =~ $address ]] || fail "$repository is no ECR repository: ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME"
readonly region=${BASH_REMATCH[1]}
readonly registry=${repository%%/*}

commit=$(git rev-parse --short=12 HEAD)
# A model names the commit that it was trained by: that has to be the whole truth.
if [[ -n $(git status --porcelain --untracked-files=no) ]]; then
    [[ $# == 2 ]] || fail "there are changes that are not committed: commit them, or give a tag"
    commit+=-changed
fi
readonly commit
readonly tag=${2:-$commit$suffix}
[[ $tag =~ ^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$ ]] || fail "$tag is no tag of an image"

for tool in docker aws; do
    [[ ${#run[@]} != 0 ]] || command -v "$tool" >/dev/null || fail "$tool is not installed"
done

# SageMaker's training instances with GPUs are x86-64. It takes no image index, which attestations would make of it.
"${run[@]}" docker build --platform linux/amd64 --provenance=false --sbom=false --file "$dockerfile" \
    --build-arg "GLIOSEG_COMMIT=$commit" --tag "$repository:$tag" .
if [[ ${#run[@]} == 0 ]]; then
    aws ecr get-login-password --region "$region" | docker login --username AWS --password-stdin "$registry"
else
    echo "aws ecr get-login-password --region $region | docker login --username AWS --password-stdin $registry"
fi
"${run[@]}" docker push "$repository:$tag"
echo "$repository:$tag"
