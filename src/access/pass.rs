//! The hub's leave to ask a holder directly, as the holder has verified it.

use crate::types::PatientIdentifier;

use super::Action;

/// Whom a region may ask about here, and for what: the hub has judged this person's question with the
/// wishes that all regions told it, as it does when the question comes through it. Nothing is permitted
/// by it that the policies and the wishes recorded here do not permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The patient's identifiers here.
    pub patients: Vec<PatientIdentifier>,
    /// Documents may be read too, not only found.
    pub reads: bool,
}

impl Pass {
    /// Whether it is for this action on these patients, and some are named.
    pub fn covers(&self, action: Action, patients: &[PatientIdentifier]) -> bool {
        let fits = action == Action::FindDocuments || action == Action::ReadDocument && self.reads;
        fits && !patients.is_empty() && patients.iter().all(|one| self.patients.contains(one))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_for_the_patients_it_names_and_for_documents_alone() {
        let patient = |value: &str| PatientIdentifier {
            authority: "1.2.3".parse().unwrap(),
            id: value.parse().unwrap(),
        };
        let pass = |reads| Pass {
            patients: vec![patient("7"), patient("8")],
            reads,
        };
        let both = [patient("7"), patient("8")];
        assert!(pass(false).covers(Action::FindDocuments, &both));
        assert!(!pass(false).covers(Action::ReadDocument, &both));
        assert!(pass(true).covers(Action::ReadDocument, &both[..1]));
        assert!(!pass(true).covers(Action::ReadDocument, &[]));
        let other = [patient("7"), patient("9")];
        assert!(!pass(true).covers(Action::FindDocuments, &other));
        for action in [
            Action::ReadSummary,
            Action::SearchPatients,
            Action::Exchange,
        ] {
            assert!(!pass(true).covers(action, &both), "{action:?}");
        }
    }
}
