//! podman with its CNI back end.
