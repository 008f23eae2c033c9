//! Patients: demographics, matching, cross-references between assigning authorities.

pub mod compare;
pub mod normalize;
