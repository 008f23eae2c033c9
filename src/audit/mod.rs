//! What happened: the audit event catalogue and its reading.
