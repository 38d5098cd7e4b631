#!/usr/bin/env bash
# Regenerate fraudstream/v1 from proto/; with --check, fail where that would change a file.
set -euo pipefail
cd "$(dirname "$0")/.."

generate() { # the folder to write under
  python -m grpc_tools.protoc --proto_path=proto --python_out="$1" --pyi_out="$1" \
    proto/fraudstream/v1/*.proto
  python -m grpc_tools.protoc --proto_path=proto --grpc_python_out="$1" \
    proto/fraudstream/v1/scoring.proto
}

if [ "${1:-}" = --check ]; then
  fresh=$(mktemp -d)
  trap 'rm -rf "$fresh"' EXIT
  generate "$fresh"
  diff -r --exclude=__init__.py --exclude=__pycache__ "$fresh/fraudstream/v1" fraudstream/v1 || {
    echo "fraudstream/v1 is not what proto/ gives: run proto/generate.sh and commit" >&2
    exit 1
  }
else
  generate .
fi
