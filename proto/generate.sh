#!/usr/bin/env bash
# Regenerate fraudstream/v1 from proto/. CI fails where this changes a committed file.
set -euo pipefail
cd "$(dirname "$0")/.."
python -m grpc_tools.protoc --proto_path=proto --python_out=. --pyi_out=. proto/fraudstream/v1/*.proto
python -m grpc_tools.protoc --proto_path=proto --grpc_python_out=. proto/fraudstream/v1/scoring.proto
