//! Who may do what: the one decision point, and break-glass grants.
