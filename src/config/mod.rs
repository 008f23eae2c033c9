//! Settings: one TOML file with environment overrides, checked at start.
