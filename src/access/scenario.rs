//! A made-up question, for trying policies out: `renkei policy explain` and `renkei policy test`.

use serde::Deserialize;

use crate::types::{Confidentiality, PersonRole, PurposeOfUse, Relation};

use super::caller::ParticipantKind;
use super::classes::DataClass;
use super::decide::{Action, Denial, GrantState};
use super::directives::ConsentState;
use super::policy::{Asked, AskedDocument, Obligation, Policies, PolicyInfo};

/// A question. What is not said is as it usually is: a hospital of the own community, registered for
/// everything, that receives emergencies, asked directly; the patient is being treated, nothing said.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "facts are what they are")]
pub struct Scenario {
    /// The role, by its code (`Medical Doctor`).
    pub role: String,
    /// The action (`ReadDocument`).
    pub action: String,
    /// Purpose of use (`TREAT`).
    #[serde(default = "treat")]
    pub purpose: String,
    /// Relation to the patient (`treating`).
    #[serde(default = "treating")]
    pub relation: String,
    /// What the patient said (`silent`).
    #[serde(default = "silent")]
    pub consent: String,
    /// Break-glass grant (`none`).
    #[serde(default = "none")]
    pub grant: String,
    /// Kind of institution (`hospital`).
    #[serde(default = "hospital")]
    pub kind: String,
    /// The institution is of the deciding community.
    #[serde(default = "yes")]
    pub own_community: bool,
    /// It receives emergency patients.
    #[serde(default = "yes")]
    pub emergency_institution: bool,
    /// It is registered for the role.
    #[serde(default = "yes")]
    pub role_registered: bool,
    /// It is registered for the purpose.
    #[serde(default = "yes")]
    pub purpose_registered: bool,
    /// The deciding node is the hub, or stands alone.
    #[serde(default = "yes")]
    pub hub: bool,
    /// The call came through the hub, or this is the hub.
    #[serde(default = "yes")]
    pub through_hub: bool,
    /// A gateway speaks for its own community.
    #[serde(default)]
    pub gateway_itself: bool,
    /// Its community is this node's parent, or below this hub.
    #[serde(default)]
    pub linked_gateway: bool,
    /// The question is only passed on.
    #[serde(default)]
    pub relaying: bool,
    /// Enrolment is consent (opt-out network).
    #[serde(default)]
    pub enrolment_is_consent: bool,
    /// A declared disaster covers the institution.
    #[serde(default)]
    pub disaster: bool,
    /// The institution has a record of the patient.
    #[serde(default = "yes")]
    pub related: bool,
    /// The document.
    pub document: Option<ScenarioDocument>,
}

/// A document of a scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "facts are what they are")]
pub struct ScenarioDocument {
    /// Data classes (`notes`).
    pub classes: Vec<String>,
    /// Confidentiality: N, R or V.
    #[serde(default = "normal")]
    pub level: String,
    /// A consent names its class or level.
    #[serde(default)]
    pub named: bool,
    /// 未提供.
    #[serde(default)]
    pub undelivered: bool,
    /// 未告知.
    #[serde(default)]
    pub uninformed: bool,
    /// Written by the asking institution.
    #[serde(default)]
    pub own: bool,
}

fn treat() -> String {
    "TREAT".to_owned()
}
fn treating() -> String {
    "treating".to_owned()
}
fn silent() -> String {
    "silent".to_owned()
}
fn none() -> String {
    "none".to_owned()
}
fn hospital() -> String {
    "hospital".to_owned()
}
fn normal() -> String {
    "N".to_owned()
}
const fn yes() -> bool {
    true
}

/// What the policies say of a scenario.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Why not, if refused.
    pub denial: Option<Denial>,
    /// What a permit obliges to.
    pub obligations: Vec<Obligation>,
    /// The policies that decided.
    pub because: Vec<PolicyInfo>,
}

/// The value of that name; else what was meant.
fn named<T: Copy>(
    what: &str,
    name: &str,
    all: &[T],
    name_of: impl Fn(T) -> &'static str,
) -> Result<T, String> {
    let found = all.iter().copied().find(|one| name_of(*one) == name);
    found.ok_or_else(|| {
        let known: Vec<&str> = all.iter().map(|one| name_of(*one)).collect();
        format!("{what} {name:?} is none of {}", known.join(", "))
    })
}

impl Scenario {
    /// Asks the policies.
    ///
    /// # Errors
    /// A name that is not one; a question without a verdict.
    pub fn explain(&self, policies: &Policies) -> Result<Explanation, String> {
        let role = named("role", &self.role, PersonRole::ALL, PersonRole::code)?;
        let action = named("action", &self.action, Action::ALL, Action::name)?;
        let verdict = policies.ask(role, action, &self.asked(role)?)?;
        Ok(Explanation {
            denial: (!verdict.permitted).then(|| verdict.denial.unwrap_or(Denial::Policy)),
            obligations: verdict.obligations.clone(),
            because: verdict
                .because
                .iter()
                .filter_map(|id| policies.policy(id).cloned())
                .collect(),
        })
    }

    fn asked(&self, role: PersonRole) -> Result<Asked, String> {
        use ParticipantKind as Kind;
        Ok(Asked {
            purpose: named(
                "purpose",
                &self.purpose,
                PurposeOfUse::ALL,
                PurposeOfUse::code,
            )?,
            kind: named("kind", &self.kind, Kind::ALL, Kind::name)?,
            relation: named("relation", &self.relation, Relation::ALL, Relation::code)?,
            consent: named(
                "consent",
                &self.consent,
                ConsentState::ALL,
                ConsentState::name,
            )?,
            grant: named("grant", &self.grant, GrantState::ALL, GrantState::name)?,
            person: !matches!(role, PersonRole::System | PersonRole::Operator),
            role_registered: self.role_registered,
            purpose_registered: self.purpose_registered,
            emergency_institution: self.emergency_institution,
            own_community: self.own_community,
            hub: self.hub,
            gateway_itself: self.gateway_itself,
            linked_gateway: self.linked_gateway,
            through_hub: self.through_hub,
            relaying: self.relaying,
            enrolment_is_consent: self.enrolment_is_consent,
            disaster: self.disaster,
            patient: true,
            related: self.related,
            document: self
                .document
                .as_ref()
                .map(ScenarioDocument::asked)
                .transpose()?,
        })
    }
}

impl ScenarioDocument {
    fn asked(&self) -> Result<AskedDocument, String> {
        let level = match self.level.as_str() {
            "N" => Confidentiality::Normal,
            "R" => Confidentiality::Restricted,
            "V" => Confidentiality::VeryRestricted,
            other => return Err(format!("level {other:?} is none of N, R, V")),
        };
        let class = |name: &String| named("class", name, DataClass::ALL, DataClass::name);
        Ok(AskedDocument {
            level,
            classes: self.classes.iter().map(class).collect::<Result<_, _>>()?,
            named: self.named,
            undelivered: self.undelivered,
            uninformed: self.uninformed,
            own: self.own,
        })
    }
}

/// A scenario with what is expected of it.
#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    /// For people.
    pub name: String,
    /// `permit`, or the reason of a refusal (`CONSENT_DENIED`).
    pub expect: String,
    /// The question.
    pub ask: Scenario,
}

/// A file of cases.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cases {
    /// The cases.
    pub case: Vec<Case>,
}

impl Case {
    /// `None` if the policies do as expected; else what they do.
    ///
    /// # Errors
    /// A case that cannot be asked.
    pub fn check(&self, policies: &Policies) -> Result<Option<String>, String> {
        let expected = match self.expect.as_str() {
            "permit" => None,
            reason => Some(
                Denial::of_name(reason).ok_or_else(|| format!("expect {reason:?} is no reason"))?,
            ),
        };
        let explained = self.ask.explain(policies)?;
        let got = explained.denial.map_or("permit", Denial::name);
        Ok((explained.denial != expected).then(|| got.to_owned()))
    }
}
