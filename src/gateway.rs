//! The domain services, wired once.
