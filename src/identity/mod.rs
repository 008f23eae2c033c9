//! Patients: demographics, matching, cross-references between assigning authorities.
