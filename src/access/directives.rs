//! Evaluating consent: a pure function of the directives and the question.

use jiff::Timestamp;

use crate::types::{HomeCommunityId, InstitutionCode};

/// Whom a directive is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grantee {
    /// Everybody who takes part (一括).
    Everyone,
    /// One community.
    Community(HomeCommunityId),
    /// One institution (個別).
    Institution(InstitutionCode),
}

/// What a directive says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stance {
    /// May see.
    Permit,
    /// May not see.
    Deny,
}

/// One recorded wish of a patient, as far as evaluation needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// What it says.
    pub stance: Stance,
    /// About whom. Empty: everyone.
    pub grantees: Vec<Grantee>,
    /// Class or type codes it is limited to. Empty: every document.
    pub classes: Vec<String>,
    /// In force from here.
    pub from: Option<Timestamp>,
    /// In force until here (exclusive).
    pub until: Option<Timestamp>,
    /// A denial that also holds against break-glass; a permit that was given for emergencies
    /// beforehand (`emergency_preconsent`).
    pub emergency: bool,
}

/// Who asks, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The asking institution.
    pub institution: Option<&'a InstitutionCode>,
    /// Its community.
    pub community: &'a HomeCommunityId,
    /// The class and type codes of the document, if one is asked for.
    pub codes: Option<&'a [&'a str]>,
    /// Now.
    pub now: Timestamp,
}

/// What the directives say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Denied; `even_in_emergency` if a denial covers break-glass too.
    Denied {
        /// Whether break-glass is refused as well.
        even_in_emergency: bool,
    },
    /// Permitted by a directive.
    Permitted,
    /// No directive applies: the community's default decides.
    Silent,
    /// A permit given beforehand for emergencies only.
    EmergencyOnly,
}

/// Evaluates directives: an explicit denial beats an explicit permit, whatever their order or age
/// (`spec` japan §5.2; "deny wins").
pub fn evaluate(directives: &[Directive], question: &Question<'_>) -> Answer {
    let mut answer = Answer::Silent;
    let mut denied = None;
    for directive in directives
        .iter()
        .filter(|directive| applies(directive, question))
    {
        match (directive.stance, directive.emergency) {
            (Stance::Deny, emergency) => denied = Some(denied.unwrap_or(false) || emergency),
            (Stance::Permit, false) => answer = Answer::Permitted,
            (Stance::Permit, true) if answer == Answer::Silent => answer = Answer::EmergencyOnly,
            (Stance::Permit, true) => {}
        }
    }
    match denied {
        Some(even_in_emergency) => Answer::Denied { even_in_emergency },
        None => answer,
    }
}

fn applies(directive: &Directive, question: &Question<'_>) -> bool {
    let started = directive.from.is_none_or(|from| from <= question.now);
    let ended = directive.until.is_some_and(|until| until <= question.now);
    // A directive for some classes says nothing about a call without a class, except that a
    // denial is kept for the moment the class is known.
    let class = directive.classes.is_empty()
        || question.codes.is_some_and(|codes| {
            directive
                .classes
                .iter()
                .any(|covered| codes.contains(&covered.as_str()))
        });
    let grantee = directive.grantees.is_empty()
        || directive.grantees.iter().any(|grantee| match grantee {
            Grantee::Everyone => true,
            Grantee::Community(community) => community == question.community,
            Grantee::Institution(code) => question.institution == Some(code),
        });
    started && !ended && class && grantee
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directive(stance: Stance) -> Directive {
        Directive {
            stance,
            grantees: vec![],
            classes: vec![],
            from: None,
            until: None,
            emergency: false,
        }
    }

    fn ask(directives: &[Directive]) -> Answer {
        let institution: InstitutionCode = "1310000001".parse().unwrap();
        let community: HomeCommunityId = "urn:oid:1.2.3".parse().unwrap();
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        evaluate(
            directives,
            &Question {
                institution: Some(&institution),
                community: &community,
                codes: Some(&["18842-5"]),
                now,
            },
        )
    }

    #[test]
    fn denial_wins_in_any_order() {
        let (permit, deny) = (directive(Stance::Permit), directive(Stance::Deny));
        let denied = Answer::Denied {
            even_in_emergency: false,
        };
        assert_eq!(ask(&[permit.clone(), deny.clone()]), denied);
        assert_eq!(ask(&[deny, permit.clone()]), denied);
        assert_eq!(ask(&[permit]), Answer::Permitted);
        assert_eq!(ask(&[]), Answer::Silent);
    }

    #[test]
    fn scope_limits_a_directive() {
        let other = Grantee::Institution("1310000002".parse().unwrap());
        let scoped = Directive {
            grantees: vec![other],
            ..directive(Stance::Deny)
        };
        assert_eq!(ask(&[scoped]), Answer::Silent);
        let class = Directive {
            classes: vec!["57133-1".into()],
            ..directive(Stance::Deny)
        };
        assert_eq!(ask(&[class]), Answer::Silent);
        let over = Directive {
            until: Some("2025-12-31T00:00:00Z".parse().unwrap()),
            ..directive(Stance::Deny)
        };
        assert_eq!(ask(&[over]), Answer::Silent);
        let later = Directive {
            from: Some("2026-02-01T00:00:00Z".parse().unwrap()),
            ..directive(Stance::Permit)
        };
        assert_eq!(ask(&[later]), Answer::Silent);
    }

    #[test]
    fn emergency_directives_are_kept_apart() {
        let pre = Directive {
            emergency: true,
            ..directive(Stance::Permit)
        };
        assert_eq!(ask(&[pre]), Answer::EmergencyOnly);
        let never = Directive {
            emergency: true,
            ..directive(Stance::Deny)
        };
        assert_eq!(
            ask(&[never]),
            Answer::Denied {
                even_in_emergency: true
            }
        );
    }
}
