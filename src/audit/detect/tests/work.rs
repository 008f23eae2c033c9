//! Ordinary work: what people at hospitals, clinics, a pharmacy and a care provider do in a network, with
//! shifts, weekends, a visiting doctor, accounting days, emergencies, errors, overtime and campaigns.
//!
//! Nothing here knows the limits of the rules. How much people do is drawn from long-tailed
//! distributions, so that some come near to what looks like misuse, as some do.

use crate::wire::pb::audit::{Action, AuditEvent, Outcome};
use crate::wire::pb::common::{self as cpb, PurposeOfUse};

pub(super) const HOUR: i64 = 3_600;
pub(super) const DAY: i64 = 24 * HOUR;
/// Monday, 2026-01-05, 0 o'clock in Japan.
pub(super) const START: i64 = 1_767_538_800;

/// splitmix64.
#[derive(Clone, Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit.max(1)
    }

    pub(super) fn within(&mut self, from: i64, to: i64) -> i64 {
        from + i64::try_from(self.below(u64::try_from(to - from).unwrap())).unwrap()
    }

    pub(super) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }

    /// About `mean`, with a long tail: now and then three or four times as much.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small numbers, never negative"
    )]
    pub(super) fn about(&mut self, mean: u64) -> u64 {
        let uniform = (self.below(1_000_000) + 1) as f64 / 1_000_001.0;
        let half = mean as f64 / 2.0;
        (half - half * uniform.ln()).round() as u64
    }
}

/// A kind of person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Staff {
    /// Sees patients, reads their documents.
    Doctor,
    /// As that, in an emergency department, day and night.
    EmergencyDoctor,
    /// Looks at many patients, a little of each.
    Nurse,
    /// Finds patients at the desk, checks insurance.
    Clerk,
    /// Looks at medication.
    Pharmacist,
    /// Comes once a week.
    Visiting,
}

impl Staff {
    pub(super) const fn role(self) -> &'static str {
        match self {
            Self::Doctor | Self::EmergencyDoctor | Self::Visiting => "Medical Doctor",
            Self::Nurse => "General Nurse",
            Self::Clerk => "Clerk",
            Self::Pharmacist => "Pharmacist",
        }
    }

    /// Patients a day.
    const fn patients(self) -> u64 {
        match self {
            Self::Doctor => 14,
            Self::EmergencyDoctor => 9,
            Self::Nurse => 10,
            Self::Clerk => 32,
            Self::Pharmacist => 16,
            Self::Visiting => 12,
        }
    }
}

/// Somebody.
#[derive(Clone, Debug)]
pub(super) struct Person {
    pub(super) subject: String,
    pub(super) staff: Staff,
    number: u64,
}

/// Somewhere.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) code: String,
    /// Open at night and at the weekend.
    round_the_clock: bool,
    pub(super) people: Vec<Person>,
    /// How many patients it has.
    pub(super) patients: u64,
}

impl Place {
    fn new(number: u64, round_the_clock: bool, patients: u64, staff: &[(Staff, u64)]) -> Self {
        let mut people = Vec::new();
        for (staff, count) in staff {
            for _ in 0..*count {
                let number = people.len() as u64;
                let subject = format!("s{number:03}");
                let staff = *staff;
                people.push(Person {
                    subject,
                    staff,
                    number,
                });
            }
        }
        Self {
            code: format!("13{number:08}"),
            round_the_clock,
            people,
            patients,
        }
    }

    /// The `number`th of a kind.
    pub(super) fn one(&self, staff: Staff, number: usize) -> &Person {
        let all = self.people.iter().filter(|one| one.staff == staff);
        all.clone().nth(number % all.count()).unwrap()
    }
}

/// Regions with hospitals, clinics, a pharmacy and a care provider each.
pub(super) fn places(regions: u64) -> Vec<Place> {
    (0..regions).flat_map(region).collect()
}

fn region(number: u64) -> Vec<Place> {
    use Staff::{Clerk, Doctor, EmergencyDoctor, Nurse, Pharmacist, Visiting};
    let university = [
        (Doctor, 24),
        (EmergencyDoctor, 6),
        (Nurse, 30),
        (Clerk, 6),
        (Pharmacist, 4),
    ];
    let hospital = [(Doctor, 8), (EmergencyDoctor, 3), (Nurse, 10), (Clerk, 3)];
    let clinic = [(Doctor, 2), (Nurse, 2), (Clerk, 2), (Visiting, 1)];
    vec![
        Place::new(1 + 10 * number, true, 20_000, &university),
        Place::new(2 + 10 * number, true, 8_000, &hospital),
        Place::new(3 + 10 * number, false, 1_500, &clinic),
        Place::new(4 + 10 * number, false, 2_000, &clinic),
        Place::new(
            5 + 10 * number,
            false,
            900,
            &[(Doctor, 1), (Nurse, 1), (Clerk, 1)],
        ),
        Place::new(
            6 + 10 * number,
            false,
            3_000,
            &[(Pharmacist, 3), (Clerk, 1)],
        ),
        Place::new(7 + 10 * number, false, 400, &[(Nurse, 4)]),
    ]
}

/// An event, without its place in the log.
pub(super) fn event(
    place: &str,
    person: &Person,
    at: i64,
    verb: &str,
    patient: &str,
) -> AuditEvent {
    AuditEvent {
        recorded: Some(prost_types::Timestamp {
            seconds: at,
            nanos: 0,
        }),
        method: format!("renkei.x.v1.X/{verb}"),
        action: Action::Execute.into(),
        outcome: Outcome::Success.into(),
        purpose: PurposeOfUse::Treatment.into(),
        relation: "treating".to_owned(),
        disclosed_count: 1,
        patient_tag: patient.to_owned(),
        institution: Some(cpb::InstitutionRef {
            institution_id: place.to_owned(),
            ..Default::default()
        }),
        person: Some(cpb::PersonRef {
            subject: person.subject.clone(),
            role: person.staff.role().to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// How a person's day goes.
struct Shift {
    from: i64,
    to: i64,
    /// Parts of a thousand of an ordinary day's patients.
    load: u64,
}

fn is_weekend(day: i64) -> bool {
    // The first day is a Monday.
    day % 7 >= 5
}

/// When somebody works on a day of the month, if they do.
fn shift(place: &Place, person: &Person, day: i64, dice: &mut Dice) -> Option<Shift> {
    let turn = (day + i64::try_from(person.number).unwrap()) % 4;
    let late = dice.below(3) * u64::from(dice.chance(150));
    let late = i64::try_from(late).unwrap();
    let days = Shift {
        from: 9,
        to: 18 + late,
        load: 1_000,
    };
    let by_turns =
        place.round_the_clock && matches!(person.staff, Staff::Nurse | Staff::EmergencyDoctor);
    if by_turns {
        return match turn {
            0 => Some(days),
            1 => Some(Shift {
                from: 16,
                to: 24,
                load: 800,
            }),
            2 => Some(Shift {
                from: 24,
                to: 33,
                load: 500,
            }),
            _ => None,
        };
    }
    if person.staff == Staff::Visiting {
        return (day % 7 == 2).then_some(days);
    }
    // A doctor on call: a few patients at night or at the weekend.
    let on_call = place.round_the_clock && person.staff == Staff::Doctor && dice.chance(80);
    if is_weekend(day) {
        return on_call.then_some(Shift {
            from: 9,
            to: 24,
            load: 200,
        });
    }
    // A clinic works through a Saturday now and then; somebody is ill or on leave.
    (!dice.chance(60)).then_some(Shift {
        to: if on_call { 23 } else { days.to },
        ..days
    })
}

/// All that happens at these places in so many days, in order of time.
pub(super) fn ordinary(places: &[Place], days: i64, dice: &mut Dice) -> Vec<AuditEvent> {
    let mut events = Vec::new();
    for place in places {
        for day in 0..days {
            let mut campaign = None;
            // One Sunday a clinic works: a vaccination campaign. Nobody told the node.
            if place.code.ends_with("04") && day == 20 {
                campaign = Some(Shift {
                    from: 9,
                    to: 16,
                    load: 700,
                });
            }
            for person in &place.people {
                let turn = match (&campaign, person.staff) {
                    (Some(campaign), Staff::Doctor | Staff::Nurse) => Some(Shift { ..*campaign }),
                    _ => shift(place, person, day, dice),
                };
                if let Some(turn) = turn {
                    one_day(place, person, day, &turn, dice, &mut events);
                }
            }
        }
    }
    events.sort_by_key(|event| event.recorded.unwrap().seconds);
    events
}

fn one_day(
    place: &Place,
    person: &Person,
    day: i64,
    turn: &Shift,
    dice: &mut Dice,
    events: &mut Vec<AuditEvent>,
) {
    let accounting = person.staff == Staff::Clerk && day % 30 < 8;
    let wanted = dice.about(person.staff.patients() * turn.load / 1_000);
    // Nobody sees more patients in a day than there is time for.
    let minutes = u64::try_from((turn.to - turn.from) * 60).unwrap();
    let patients = wanted.min(minutes / 4);
    for _ in 0..patients {
        let at = START + day * DAY + dice.within(turn.from * HOUR, turn.to * HOUR);
        // In a hospital, many people look after the same inpatients.
        let inpatient = place.round_the_clock && dice.chance(400);
        let number = match inpatient {
            true => u64::try_from(day / 5).unwrap() * 100 + dice.below(place.patients / 250),
            false => dice.below(place.patients),
        };
        let patient = format!("{}-{number}", place.code);
        one_patient(place, person, at, &patient, accounting, dice, events);
    }
}

/// A patient at the desk: found, now and then after an error.
fn at_the_desk(
    place: &Place,
    person: &Person,
    at: i64,
    patient: &str,
    accounting: bool,
    dice: &mut Dice,
) -> Vec<AuditEvent> {
    let reason = match accounting && dice.chance(400) {
        true => PurposeOfUse::Payment,
        false => PurposeOfUse::Operations,
    };
    let asked = |later: i64, verb: &str, patient: &str, shown: u32| AuditEvent {
        purpose: reason.into(),
        disclosed_count: shown,
        ..event(&place.code, person, at + later, verb, patient)
    };
    let mut events = Vec::new();
    if dice.chance(120) {
        // Misspelt, so nobody is found.
        events.push(asked(0, "SearchPatients", "", 0));
    }
    events.push(asked(5, "SearchPatients", "", 1));
    events.push(asked(15, "QueryIdentifiers", patient, 1));
    events
}

fn one_patient(
    place: &Place,
    person: &Person,
    at: i64,
    patient: &str,
    accounting: bool,
    dice: &mut Dice,
    events: &mut Vec<AuditEvent>,
) {
    if person.staff == Staff::Clerk {
        events.extend(at_the_desk(place, person, at, patient, accounting, dice));
        return;
    }
    let mut push = |later: i64, verb: &str, patient: &str, change: &dyn Fn(&mut AuditEvent)| {
        let mut one = event(&place.code, person, at + later, verb, patient);
        change(&mut one);
        events.push(one);
    };
    let emergency = person.staff == Staff::EmergencyDoctor && dice.chance(350);
    let reason = match emergency {
        true => PurposeOfUse::Emergency,
        false => PurposeOfUse::Treatment,
    };
    let stranger = place.round_the_clock && dice.chance(if emergency { 700 } else { 40 });
    let relation = if emergency { "emergency" } else { "treating" };
    let about = move |one: &mut AuditEvent| {
        one.purpose = reason.into();
        one.relation = relation.to_owned();
        one.relation_claimed = stranger;
    };
    if emergency {
        push(0, "IdentifyPatient", "", &about);
        if dice.chance(60) {
            push(20, "OpenBreakGlass", patient, &about);
        }
        push(40, "GetSummary", patient, &|one| {
            about(one);
            one.restricted_confirmed = at % 23 == 0;
        });
        return;
    }
    if dice.chance(25) {
        push(0, "FindDocuments", patient, &|one| {
            about(one);
            one.outcome = Outcome::Denied.into();
            one.disclosed_count = 0;
        });
        return;
    }
    let listed = u32::try_from(dice.about(6)).unwrap();
    push(0, "FindDocuments", patient, &|one| {
        about(one);
        one.disclosed_count = listed;
    });
    for number in 0..dice.below(u64::from(listed.min(4)) + 1) {
        let later = 30 + 45 * i64::try_from(number).unwrap();
        push(later, "RetrieveDocuments", patient, &|one| {
            about(one);
            one.action = Action::Read.into();
        });
    }
    if dice.chance(3) {
        // A document was given to the wrong patient and is taken back.
        push(300, "DeleteObjects", patient, &|one| {
            about(one);
            one.action = Action::Delete.into();
            one.disclosed_count = 0;
        });
    }
}
