"""The five services; none imports another."""

import os

# gRPC's core writes lines of its own to stderr, what a caller sent among them, so that somebody
# without a token could put a line into the log. It looks at this once, when it is imported. Set it
# to ERROR or INFO to see them: failed handshakes are told nowhere else.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
