//! Who takes part: communities, institutions, their certificates and endpoints.
