//! The closed vocabulary of failure. Domain errors carry facts; each says which [`ErrorKind`] it
//! is, and each door maps the kind once (`api::grpc::status` to gRPC and the IHE error code).
