"""The gRPC server: settings, admission, answers, and the process around them."""
