//! Certificates: profile, judgement, revocation, TLS configurations, development PKI.
