//! The ebXML form of registry messages (ebRIM 3.0 and ebRS 3.0, ITI TF-3 §4.2) and the model: what a
//! SOAP door reads and writes.
//!
//! [`read`] turns requests into messages of the model, collecting every fault with its place;
//! [`submit_objects_request`] prints the model.

mod names;
mod objects;
mod print;
mod query;
mod requests;
mod values;

#[cfg(test)]
mod tests;

pub use print::submit_objects_request;
pub use query::read_query;
pub use requests::{Content, Provided, Request, read};

/// `rim:`, the registry information model.
pub const RIM: &str = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0";
/// `lcm:`, life cycle management.
pub const LCM: &str = "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0";
/// `rs:`, registry services.
pub const RS: &str = "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0";
/// `query:`, stored queries.
pub const QUERY: &str = "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0";
/// `xds:`, provide and retrieve.
pub const XDS: &str = "urn:ihe:iti:xds-b:2007";
/// `rmd:`, removal of documents.
pub const RMD: &str = "urn:ihe:iti:rmd:2017";
