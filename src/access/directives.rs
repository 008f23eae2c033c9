//! Evaluating consent: a pure function of the directives and the question.

use jiff::Timestamp;
use jiff::civil::Date;

use crate::planted::planted;
use crate::types::{Confidentiality, HomeCommunityId, InstitutionCode, PersonRole, PurposeOfUse};

use super::classes::{Classes, DataClass};

/// Whom a directive is about: it fits where every part given fits. With no part: everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grantee {
    /// One community.
    pub community: Option<HomeCommunityId>,
    /// One institution (個別・施設単位).
    pub institution: Option<InstitutionCode>,
    /// One person of it, by the institution's identifier (個別・個人単位).
    pub person: Option<String>,
    /// One role.
    pub role: Option<PersonRole>,
}

impl Grantee {
    fn fits(&self, question: &Question<'_>) -> bool {
        let community = self.community.as_ref();
        let institution = self.institution.as_ref();
        let person = self.person.as_deref();
        community.is_none_or(|one| one == question.community)
            && institution.is_none_or(|one| Some(one) == question.institution)
            && person.is_none_or(|one| Some(one) == question.person)
            && self.role.is_none_or(|one| one == question.role)
    }
}

/// Whose records a directive is about (開示施設).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discloser {
    /// Those of one community.
    Community(HomeCommunityId),
    /// Those that one institution wrote.
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

/// Only data of these days, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days {
    /// From; open if absent.
    pub first: Option<Date>,
    /// To; open if absent.
    pub last: Option<Date>,
}

/// One recorded wish of a patient, as far as evaluation needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// What it says.
    pub stance: Stance,
    /// About whom. Empty: everyone.
    pub grantees: Vec<Grantee>,
    /// Whom it leaves out.
    pub excepted: Vec<Grantee>,
    /// Whose records. Empty: every discloser.
    pub disclosers: Vec<Discloser>,
    /// Class or type codes it is limited to. Empty, with no data class: every document.
    pub codes: Vec<String>,
    /// Data classes it is limited to.
    pub classes: Classes,
    /// Up to how confidential a permit goes.
    pub ceiling: Confidentiality,
    /// For which purposes. Empty: of a permit treatment, of a denial every one.
    pub purposes: Vec<PurposeOfUse>,
    /// Only callers of this community: implied consent is not carried across communities.
    pub within: Option<HomeCommunityId>,
    /// Only data of these days.
    pub days: Option<Days>,
    /// In force from here.
    pub from: Option<Timestamp>,
    /// In force until here (exclusive).
    pub until: Option<Timestamp>,
    /// A denial that also holds against break-glass; a permit that was given for emergencies
    /// beforehand (`emergency_preconsent`).
    pub emergency: bool,
}

impl Directive {
    /// A directive about everybody, everything, for ever.
    pub fn new(stance: Stance) -> Self {
        Self {
            stance,
            grantees: Vec::new(),
            excepted: Vec::new(),
            disclosers: Vec::new(),
            codes: Vec::new(),
            classes: Classes::NONE,
            ceiling: Confidentiality::Normal,
            purposes: Vec::new(),
            within: None,
            days: None,
            from: None,
            until: None,
            emergency: false,
        }
    }
}

/// What a decision asks of a document.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DocumentFacts {
    /// Its class code and type code: a directive may name either.
    pub codes: [String; 2],
    /// Its data classes.
    pub classes: Classes,
    /// How confidential it is.
    pub confidentiality: Confidentiality,
    /// UNDELIVERED (未提供).
    pub undelivered: bool,
    /// UNINFORMED (未告知).
    pub uninformed: bool,
    /// The institutions that wrote it.
    pub authors: Vec<InstitutionCode>,
    /// The day of the service, or of its making.
    pub day: Option<Date>,
    /// Sent by a referral to some institutions only: which, and until when each may read it.
    pub directed: Option<Vec<(InstitutionCode, Timestamp)>>,
}

/// Who asks, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The asking institution.
    pub institution: Option<&'a InstitutionCode>,
    /// Its community.
    pub community: &'a HomeCommunityId,
    /// The person, by the institution's identifier.
    pub person: Option<&'a str>,
    /// The role judged.
    pub role: PersonRole,
    /// The purpose stated.
    pub purpose: PurposeOfUse,
    /// The community that decides, whose records they are.
    pub home: &'a HomeCommunityId,
    /// The document, if one is asked for.
    pub document: Option<&'a DocumentFacts>,
    /// Now.
    pub now: Timestamp,
}

/// What a patient's wishes say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConsentState {
    /// A permit covers it.
    Permitted,
    /// Nothing said: the network's default decides.
    Silent,
    /// Permitted beforehand, for emergencies.
    EmergencyOnly,
    /// Refused.
    Denied,
    /// Refused, for emergencies too.
    DeniedAlways,
}

impl ConsentState {
    /// Every state.
    pub const ALL: &'static [Self] = &[
        Self::Permitted,
        Self::Silent,
        Self::EmergencyOnly,
        Self::Denied,
        Self::DeniedAlways,
    ];

    /// Its name in policies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Permitted => "permitted",
            Self::Silent => "silent",
            Self::EmergencyOnly => "emergency-only",
            Self::Denied => "denied",
            Self::DeniedAlways => "denied-always",
        }
    }
}

/// The answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What the wishes say.
    pub state: ConsentState,
    /// A permit names what is sensitive about the document.
    pub named: bool,
}

/// Evaluates directives: an explicit denial beats an explicit permit, whatever their order or age
/// (`spec` japan §5.2; "deny wins").
///
/// Without a document, the question is whether documents may be asked for at all: a denial of some
/// documents does not say no to that, a permit for some says yes. Each document is asked about then.
pub fn evaluate(directives: &[Directive], question: &Question<'_>) -> Answer {
    let mut state = ConsentState::Silent;
    let mut denied = None;
    let mut named = false;
    for directive in directives {
        if !applies(directive, question) {
            continue;
        }
        match (directive.stance, directive.emergency) {
            (Stance::Deny, emergency) => denied = Some(denied.unwrap_or(false) || emergency),
            (Stance::Permit, false) => {
                state = ConsentState::Permitted;
                named |= names(directive, question);
            }
            (Stance::Permit, true) => {
                // What was given for emergencies names nothing for ordinary care.
                named |= is_urgent(question) && names(directive, question);
                if state == ConsentState::Silent {
                    state = ConsentState::EmergencyOnly;
                }
            }
        }
    }
    if state == ConsentState::Permitted && planted("a permit beats a denial") {
        denied = None;
    }
    let state = match denied {
        Some(true) => ConsentState::DeniedAlways,
        Some(false) => ConsentState::Denied,
        None => state,
    };
    Answer { state, named }
}

fn is_urgent(question: &Question<'_>) -> bool {
    matches!(
        question.purpose,
        PurposeOfUse::Emergency | PurposeOfUse::Disaster
    )
}

fn applies(directive: &Directive, question: &Question<'_>) -> bool {
    let started = directive.from.is_none_or(|from| from <= question.now);
    let ended = directive.until.is_some_and(|until| until <= question.now)
        && !planted("a consent that ended in force");
    let within = directive.within.as_ref();
    let within = within.is_none_or(|community| community == question.community);
    let fits = |grantee: &Grantee| grantee.fits(question);
    let grantee = directive.grantees.is_empty() || directive.grantees.iter().any(fits);
    let excepted = directive.excepted.iter().any(fits);
    started
        && !ended
        && within
        && grantee
        && !excepted
        && purpose(directive, question.purpose)
        && documents(directive, question)
}

/// A permit without purposes is for treatment (`consent.proto`), ordinary or urgent; a denial
/// without them is for all.
fn purpose(directive: &Directive, purpose: PurposeOfUse) -> bool {
    use PurposeOfUse as P;
    match directive.stance {
        Stance::Permit if directive.purposes.is_empty() => {
            matches!(purpose, P::Treatment | P::Emergency | P::Disaster)
        }
        Stance::Deny if directive.purposes.is_empty() => true,
        Stance::Permit | Stance::Deny => directive.purposes.contains(&purpose),
    }
}

/// Whether the directive is about the document; what is not known of it counts for a denial, and
/// against a permit.
fn documents(directive: &Directive, question: &Question<'_>) -> bool {
    let denies = directive.stance == Stance::Deny;
    let of_kind = directive.codes.is_empty() && directive.classes.is_empty();
    let Some(document) = question.document else {
        let elsewhere = |one: &Discloser| matches!(one, Discloser::Community(community) if community != question.home);
        let nothing_here =
            !directive.disclosers.is_empty() && directive.disclosers.iter().all(elsewhere);
        let some = !of_kind
            || directive.days.is_some()
            || directive
                .disclosers
                .iter()
                .any(|one| matches!(one, Discloser::Institution(_)));
        return !(nothing_here || denies && some);
    };
    let unknown = document.classes.has(DataClass::Unclassified) && !directive.classes.is_empty();
    let kind = of_kind
        || directive.classes.meets(document.classes)
        || directive
            .codes
            .iter()
            .any(|code| document.codes.contains(code))
        || (denies && unknown);
    let discloser = directive.disclosers.is_empty()
        || directive.disclosers.iter().any(|one| match one {
            Discloser::Community(community) => community == question.home,
            Discloser::Institution(code) => {
                document.authors.contains(code) || (denies && document.authors.is_empty())
            }
        });
    let days = directive.days.is_none_or(|days| match document.day {
        Some(day) => {
            days.first.is_none_or(|first| first <= day) && days.last.is_none_or(|last| day <= last)
        }
        None => denies,
    });
    kind && discloser && days
}

/// Whether a permit that applies names what is sensitive about the document: all of its sensitive
/// classes, or the document's own code; and if it has none, its level.
fn names(directive: &Directive, question: &Question<'_>) -> bool {
    let Some(document) = question.document else {
        return false;
    };
    let sensitive = document.classes.sensitive();
    let by_code = directive
        .codes
        .iter()
        .any(|code| document.codes.contains(code));
    let by_class = !sensitive.is_empty() && sensitive.iter().all(|one| directive.classes.has(one));
    // Naming 精神科 is naming what is R about it; V is more than that.
    let reached = if by_code || by_class {
        directive.ceiling.max(Confidentiality::Restricted)
    } else {
        directive.ceiling
    };
    document.confidentiality <= reached && (sensitive.is_empty() || by_code || by_class)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(kind: &'static str) -> DocumentFacts {
        DocumentFacts {
            codes: [String::new(), kind.to_owned()],
            classes: Classes::of_document([kind, ""], "", [].into_iter()),
            confidentiality: Confidentiality::Normal,
            undelivered: false,
            uninformed: false,
            authors: vec!["1310000009".parse().unwrap()],
            day: Some("2025-06-01".parse().unwrap()),
            directed: None,
        }
    }

    fn ask_about(directives: &[Directive], document: Option<&DocumentFacts>) -> Answer {
        let institution: InstitutionCode = "1310000001".parse().unwrap();
        let community: HomeCommunityId = "urn:oid:1.2.3".parse().unwrap();
        let home: HomeCommunityId = "urn:oid:1.9".parse().unwrap();
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        evaluate(
            directives,
            &Question {
                institution: Some(&institution),
                community: &community,
                person: Some("staff-1"),
                role: PersonRole::Physician,
                purpose: PurposeOfUse::Treatment,
                home: &home,
                document,
                now,
            },
        )
    }

    fn ask(directives: &[Directive]) -> ConsentState {
        ask_about(directives, Some(&document("18842-5"))).state
    }

    fn permit() -> Directive {
        Directive::new(Stance::Permit)
    }

    fn deny() -> Directive {
        Directive::new(Stance::Deny)
    }

    #[test]
    fn denial_wins_in_any_order() {
        assert_eq!(ask(&[permit(), deny()]), ConsentState::Denied);
        assert_eq!(ask(&[deny(), permit()]), ConsentState::Denied);
        assert_eq!(ask(&[permit()]), ConsentState::Permitted);
        assert_eq!(ask(&[]), ConsentState::Silent);
    }

    #[test]
    fn every_part_of_a_grantee_must_fit() {
        let to = |grantee| Directive {
            grantees: vec![grantee],
            ..permit()
        };
        let here = Grantee {
            institution: Some("1310000001".parse().unwrap()),
            ..Grantee::default()
        };
        let person = |subject: &str| Grantee {
            person: Some(subject.to_owned()),
            ..here.clone()
        };
        let nurse = Grantee {
            role: Some(PersonRole::Nurse),
            ..here.clone()
        };
        assert_eq!(ask(&[to(here.clone())]), ConsentState::Permitted);
        assert_eq!(ask(&[to(person("staff-1"))]), ConsentState::Permitted);
        assert_eq!(ask(&[to(person("staff-2"))]), ConsentState::Silent);
        assert_eq!(ask(&[to(nurse)]), ConsentState::Silent);
        let other = Grantee {
            institution: Some("1310000002".parse().unwrap()),
            ..Grantee::default()
        };
        assert_eq!(ask(&[to(other)]), ConsentState::Silent);
        let all_but = Directive {
            excepted: vec![here],
            ..permit()
        };
        assert_eq!(ask(&[all_but]), ConsentState::Silent);
    }

    #[test]
    fn time_bounds_and_purposes_limit() {
        let over = Directive {
            until: Some("2025-12-31T00:00:00Z".parse().unwrap()),
            ..deny()
        };
        assert_eq!(ask(&[over]), ConsentState::Silent);
        let later = Directive {
            from: Some("2026-02-01T00:00:00Z".parse().unwrap()),
            ..permit()
        };
        assert_eq!(ask(&[later]), ConsentState::Silent);
        let research = |stance| Directive {
            purposes: vec![PurposeOfUse::Research],
            ..Directive::new(stance)
        };
        assert_eq!(ask(&[research(Stance::Permit)]), ConsentState::Silent);
        assert_eq!(ask(&[research(Stance::Deny)]), ConsentState::Silent);
    }

    #[test]
    fn implied_consent_stays_in_its_community() {
        let within = |community: &str| Directive {
            within: Some(community.parse().unwrap()),
            ..permit()
        };
        assert_eq!(ask(&[within("urn:oid:1.2.3")]), ConsentState::Permitted);
        assert_eq!(ask(&[within("urn:oid:1.9")]), ConsentState::Silent);
    }

    #[test]
    fn a_class_limits_documents_and_not_the_question_for_a_list() {
        let class = |stance, class| Directive {
            classes: Classes::NONE.with(class),
            ..Directive::new(stance)
        };
        let notes = class(Stance::Deny, DataClass::Notes);
        assert_eq!(ask(std::slice::from_ref(&notes)), ConsentState::Denied);
        assert_eq!(ask_about(&[notes], None).state, ConsentState::Silent);
        let labs = class(Stance::Permit, DataClass::Result);
        assert_eq!(ask(std::slice::from_ref(&labs)), ConsentState::Silent);
        let list = ask_about(std::slice::from_ref(&labs), None).state;
        assert_eq!(list, ConsentState::Permitted);
        let lab = document("11502-2");
        assert_eq!(
            ask_about(&[labs], Some(&lab)).state,
            ConsentState::Permitted
        );
        let code = Directive {
            codes: vec!["18842-5".to_owned()],
            ..deny()
        };
        assert_eq!(ask(std::slice::from_ref(&code)), ConsentState::Denied);
        assert_eq!(ask_about(&[code], Some(&lab)).state, ConsentState::Silent);
    }

    #[test]
    fn what_is_not_known_of_a_document_counts_for_denial() {
        let psychiatry = |stance| Directive {
            classes: Classes::NONE.with(DataClass::Psychiatry),
            ..Directive::new(stance)
        };
        let unknown = document("unheard-of");
        let about = |stance| ask_about(&[psychiatry(stance)], Some(&unknown)).state;
        assert_eq!(about(Stance::Deny), ConsentState::Denied);
        assert_eq!(about(Stance::Permit), ConsentState::Silent);
        let days = |stance| Directive {
            days: Some(Days {
                first: Some("2025-01-01".parse().unwrap()),
                last: Some("2025-12-31".parse().unwrap()),
            }),
            ..Directive::new(stance)
        };
        let undated = DocumentFacts {
            day: None,
            ..document("18842-5")
        };
        let old = DocumentFacts {
            day: Some("2019-01-01".parse().unwrap()),
            ..document("18842-5")
        };
        let state = |stance, of: &DocumentFacts| ask_about(&[days(stance)], Some(of)).state;
        assert_eq!(state(Stance::Permit, &undated), ConsentState::Silent);
        assert_eq!(state(Stance::Deny, &undated), ConsentState::Denied);
        assert_eq!(state(Stance::Deny, &old), ConsentState::Silent);
        assert_eq!(ask(&[days(Stance::Permit)]), ConsentState::Permitted);
    }

    #[test]
    fn disclosers_limit() {
        let of = |stance, code: &str| Directive {
            disclosers: vec![Discloser::Institution(code.parse().unwrap())],
            ..Directive::new(stance)
        };
        assert_eq!(ask(&[of(Stance::Deny, "1310000009")]), ConsentState::Denied);
        assert_eq!(ask(&[of(Stance::Deny, "1310000008")]), ConsentState::Silent);
        let nobody = DocumentFacts {
            authors: vec![],
            ..document("18842-5")
        };
        let state = |stance| ask_about(&[of(stance, "1310000009")], Some(&nobody)).state;
        assert_eq!(state(Stance::Deny), ConsentState::Denied);
        assert_eq!(state(Stance::Permit), ConsentState::Silent);
        let community = |home: &str| Directive {
            disclosers: vec![Discloser::Community(home.parse().unwrap())],
            ..deny()
        };
        assert_eq!(ask(&[community("urn:oid:1.9")]), ConsentState::Denied);
        assert_eq!(ask(&[community("urn:oid:1.7")]), ConsentState::Silent);
        let list = ask_about(&[community("urn:oid:1.9")], None).state;
        assert_eq!(list, ConsentState::Denied);
    }

    #[test]
    fn a_sensitive_document_must_be_named() {
        let psychiatric = DocumentFacts {
            classes: Classes::NONE
                .with(DataClass::Notes)
                .with(DataClass::Psychiatry),
            confidentiality: Confidentiality::Restricted,
            ..document("18842-5")
        };
        let named = |directive: Directive| ask_about(&[directive], Some(&psychiatric)).named;
        assert!(!named(permit()));
        let classes = Classes::NONE.with(DataClass::Psychiatry);
        assert!(named(Directive {
            classes,
            ..permit()
        }));
        // A level alone does not name a class.
        let ceiling = Confidentiality::VeryRestricted;
        assert!(!named(Directive {
            ceiling,
            ..permit()
        }));
        let very = DocumentFacts {
            confidentiality: Confidentiality::VeryRestricted,
            ..document("18842-5")
        };
        let named = |directive: Directive| ask_about(&[directive], Some(&very)).named;
        assert!(named(Directive {
            ceiling,
            ..permit()
        }));
        assert!(!named(Directive {
            classes: Classes::NONE.with(DataClass::Notes),
            ..permit()
        }));
    }

    /// What was given for emergencies opens nothing in ordinary care.
    #[test]
    fn an_emergency_permit_names_nothing_for_treatment() {
        let classes = Classes::NONE.with(DataClass::Psychiatry);
        let psychiatric = DocumentFacts {
            classes,
            confidentiality: Confidentiality::Restricted,
            ..document("18842-5")
        };
        let given = Directive {
            classes,
            emergency: true,
            ..permit()
        };
        let both = ask_about(&[permit(), given.clone()], Some(&psychiatric));
        assert_eq!((both.state, both.named), (ConsentState::Permitted, false));
        let ordinary = Directive {
            emergency: false,
            ..given
        };
        assert!(ask_about(&[ordinary], Some(&psychiatric)).named);
    }

    #[test]
    fn emergency_directives_are_kept_apart() {
        let emergency = |directive| Directive {
            emergency: true,
            ..directive
        };
        assert_eq!(ask(&[emergency(permit())]), ConsentState::EmergencyOnly);
        assert_eq!(ask(&[emergency(deny())]), ConsentState::DeniedAlways);
        assert_eq!(
            ask(&[emergency(deny()), deny()]),
            ConsentState::DeniedAlways
        );
    }
}
