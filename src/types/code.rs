//! Coded values.

/// A code in its scheme (HL7 CE; XDS Code: code, codingScheme, display name).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code {
    /// The code (nodeRepresentation).
    pub code: String,
    /// The scheme it belongs to: an OID or URI (codingScheme).
    pub scheme: String,
    /// The display name.
    pub display: String,
}

/// HL7 confidentiality (code system 2.16.840.1.113883.5.25), lowest first; what a document needs
/// of its reader (`spec` japan §3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Confidentiality {
    /// `U`, `L`, `M`, `N`: ordinary medical information.
    Normal,
    /// `R`: restricted, such as psychiatry or infections.
    Restricted,
    /// `V`: very restricted, such as 未告知 and abuse.
    VeryRestricted,
}

impl Confidentiality {
    /// The level of an HL7 code; `None` if the code is not of that system.
    pub fn from_code(code: &str) -> Option<Self> {
        match code {
            "U" | "L" | "M" | "N" => Some(Self::Normal),
            "R" => Some(Self::Restricted),
            "V" => Some(Self::VeryRestricted),
            _ => None,
        }
    }
}
