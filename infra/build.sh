#!/usr/bin/env bash
# Builds the functions as the template deploys them, and says how large they are:
#
#     infra/build.sh [--arm64 | --x86-64]
#
# Needs cargo-lambda and zig on the PATH (both from PyPI: .ci/requirements-stand-ins.txt has the versions) and the Rust
# target (`rustup target add aarch64-unknown-linux-gnu`, or x86_64-unknown-linux-gnu). Leaves
# target/lambda/<name>/bootstrap.zip, which the template names.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly architecture=${1:---arm64}
readonly functions=(preprocess segment score)

case $architecture in
--arm64 | --x86-64) ;;
*)
    echo "usage: infra/build.sh [--arm64 | --x86-64]" >&2
    exit 2
    ;;
esac

# The entropy that aws-lc would gather from the jitter of its clock costs each cold start time; the kernel's is enough.
export AWS_LC_SYS_NO_JITTER_ENTROPY=1
# Line tables and symbols would be most of the zip, and nobody looks at a backtrace there.
export CARGO_PROFILE_RELEASE_DEBUG=false CARGO_PROFILE_RELEASE_STRIP=symbols
# What no function calls is left out, and a smaller program starts sooner.
export CARGO_PROFILE_RELEASE_LTO=thin CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1

# By package, so that dependencies are built with what the functions ask of them, not with what training does.
cargo-lambda lambda build --release --locked "$architecture" --output-format zip "${functions[@]/#/--package=glioseg-}"

for function in "${functions[@]}"; do
    bytes=$(stat --format %s "${CARGO_TARGET_DIR:-target}/lambda/$function/bootstrap.zip")
    printf '%-10s %s  %3d.%d MB\n' "$function" "${architecture#--}" $((bytes / 1000000)) $((bytes / 100000 % 10))
done
