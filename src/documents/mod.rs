//! Document metadata and content: registry and repository.
