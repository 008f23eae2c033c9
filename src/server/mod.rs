//! Running a node: accept loop, TLS, layers, drain.
