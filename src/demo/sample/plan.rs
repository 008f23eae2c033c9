//! Which documents exist and what each of them says.

use jiff::civil::Date;

use super::clinical::{
    ALLERGIES, AMLODIPINE, APPENDICITIS, ASTHMA, ATRIAL_FIBRILLATION, Allergy, BISOPROLOL,
    BRONCHITIS, CONTRAST, DIABETES, Drug, EGG, HYPERTENSION, METFORMIN, Operation, PENICILLIN,
    PROBLEMS, Problem, SICK_SINUS, WARFARIN,
};
use super::labs::{CHECKUP_PANEL, HOSPITAL_PANEL, PT_INR, Test};
use super::model::{DocumentKind, InstitutionKind, SampleRecord, SampleRegion, Scenario};
use super::person::Identity;
use super::rng::Rng;

/// One document to be written: `slot` is the index of the person's record it is written from.
pub(super) struct Plan {
    pub(super) person: usize,
    pub(super) slot: usize,
    pub(super) kind: DocumentKind,
    pub(super) days_ago: i32,
    pub(super) facts: Facts,
}

/// What a document says about the patient.
#[derive(Clone, Default)]
pub(super) struct Facts {
    pub(super) problems: Vec<&'static Problem>,
    pub(super) allergies: Vec<&'static Allergy>,
    pub(super) drugs: Vec<&'static Drug>,
    pub(super) results: Vec<Reading>,
    pub(super) operations: Vec<&'static Operation>,
    pub(super) pacemaker: bool,
}

/// A test result in steps of `10^-decimals` of the test's unit.
#[derive(Clone)]
pub(super) struct Reading {
    pub(super) test: &'static Test,
    steps: i32,
}

impl Reading {
    /// A random result, now and then outside the reference range.
    fn random(rng: &mut Rng, test: &'static Test) -> Self {
        let (low, high) = test.range;
        let margin = (high - low) / 5;
        Self {
            test,
            steps: rng.between(low - margin, high + margin),
        }
    }

    /// The number in the test's unit.
    pub(super) fn value(&self) -> f64 {
        f64::from(self.steps) / 10_f64.powi(self.test.decimals)
    }

    /// HL7 interpretation: L, N or H.
    pub(super) fn interpretation(&self) -> &'static str {
        match (
            self.steps < self.test.range.0,
            self.steps > self.test.range.1,
        ) {
            (true, _) => "L",
            (_, true) => "H",
            _ => "N",
        }
    }
}

fn panel(rng: &mut Rng, tests: &[&'static Test]) -> Vec<Reading> {
    tests
        .iter()
        .map(|test| Reading::random(rng, test))
        .collect()
}

/// What is known of `problems` at an ordinary visit.
fn about(problems: &[&'static Problem]) -> Facts {
    let drugs = problems
        .iter()
        .flat_map(|problem| problem.drugs)
        .copied()
        .collect();
    Facts {
        problems: problems.to_vec(),
        drugs,
        ..Facts::default()
    }
}

/// The plans for the people of the scenario.
pub(super) fn scenario(rng: &mut Rng, scenario: &Scenario) -> Vec<Plan> {
    let mut plans = cross_region(rng, scenario.cross_region);
    plans.extend(emergency(rng, scenario.emergency));
    plans.extend(married(rng, scenario.married));
    plans.extend(opted_out(scenario.opted_out));
    plans.extend(namesakes(scenario.namesakes));
    plans.extend(twins(scenario.twins));
    plans
}

fn married(rng: &mut Rng, person: usize) -> [Plan; 3] {
    let plan = |slot, kind, days_ago, facts| Plan {
        person,
        slot,
        kind,
        days_ago,
        facts,
    };
    let checkup = Facts {
        results: panel(rng, &CHECKUP_PANEL),
        ..Facts::default()
    };
    [
        plan(0, DocumentKind::Referral, 1_460, about(&[&ASTHMA])),
        plan(1, DocumentKind::Prescription, 50, about(&[&ASTHMA])),
        plan(2, DocumentKind::HealthCheck, 120, checkup),
    ]
}

fn opted_out(person: usize) -> [Plan; 2] {
    let plan = |slot, kind, days_ago, facts| Plan {
        person,
        slot,
        kind,
        days_ago,
        facts,
    };
    let mut surgery = about(&[&APPENDICITIS]);
    surgery.operations.extend(APPENDICITIS.operation);
    [
        plan(0, DocumentKind::DischargeSummary, 300, surgery),
        plan(1, DocumentKind::Prescription, 20, about(&[&HYPERTENSION])),
    ]
}

/// Only one of the two is allergic: to mix them up would be dangerous.
fn namesakes((one, other): (usize, usize)) -> [Plan; 2] {
    let kind = DocumentKind::Referral;
    let allergic = Facts {
        allergies: vec![&PENICILLIN],
        ..about(&[&HYPERTENSION])
    };
    [
        Plan {
            person: one,
            slot: 0,
            kind,
            days_ago: 90,
            facts: allergic,
        },
        Plan {
            person: other,
            slot: 0,
            kind,
            days_ago: 70,
            facts: about(&[&DIABETES]),
        },
    ]
}

/// Both were ill at the same time; only the elder is allergic.
fn twins((elder, younger): (usize, usize)) -> [Plan; 4] {
    let plan = |person, slot, kind, facts| Plan {
        person,
        slot,
        kind,
        days_ago: 40,
        facts,
    };
    let allergic = Facts {
        allergies: vec![&EGG],
        ..about(&[&ASTHMA])
    };
    [
        plan(elder, 0, DocumentKind::Prescription, about(&[&BRONCHITIS])),
        plan(elder, 1, DocumentKind::Referral, allergic),
        plan(
            younger,
            0,
            DocumentKind::Prescription,
            about(&[&BRONCHITIS]),
        ),
        plan(younger, 1, DocumentKind::Referral, about(&[&BRONCHITIS])),
    ]
}

/// The allergy is known in the first region only, the medication in the second only.
fn cross_region(rng: &mut Rng, person: usize) -> Vec<Plan> {
    let plan = |slot, kind, days_ago, facts| Plan {
        person,
        slot,
        kind,
        days_ago,
        facts,
    };
    let mut stay = about(&[&APPENDICITIS]);
    stay.operations.extend(APPENDICITIS.operation);
    stay.allergies.push(&CONTRAST);
    stay.results = panel(rng, &HOSPITAL_PANEL);
    let report = Facts {
        results: panel(rng, &HOSPITAL_PANEL),
        ..Facts::default()
    };
    let medicines = Facts {
        drugs: vec![&METFORMIN, &AMLODIPINE],
        ..about(&[&DIABETES])
    };
    let mut referral = medicines.clone();
    referral.problems.push(&HYPERTENSION);
    referral.results = panel(rng, &HOSPITAL_PANEL);
    vec![
        plan(0, DocumentKind::DischargeSummary, 410, stay),
        plan(0, DocumentKind::PdfLabReport, 395, report),
        plan(1, DocumentKind::Prescription, 25, medicines.clone()),
        plan(1, DocumentKind::Referral, 24, referral),
        plan(1, DocumentKind::CdaReferral, 180, medicines),
    ]
}

/// Pacemaker and penicillin allergy in the first region, warfarin and fresh results in the second.
fn emergency(rng: &mut Rng, person: usize) -> Vec<Plan> {
    let plan = |slot, kind, days_ago, facts| Plan {
        person,
        slot,
        kind,
        days_ago,
        facts,
    };
    let stay = Facts {
        problems: vec![&SICK_SINUS, &ATRIAL_FIBRILLATION],
        allergies: vec![&PENICILLIN],
        results: panel(rng, &HOSPITAL_PANEL),
        operations: SICK_SINUS.operation.into_iter().collect(),
        pacemaker: true,
        drugs: Vec::new(),
    };
    let medicines = Facts {
        problems: vec![&ATRIAL_FIBRILLATION],
        drugs: vec![&WARFARIN, &BISOPROLOL],
        ..Facts::default()
    };
    let mut referral = medicines.clone();
    referral.problems.push(&HYPERTENSION);
    referral.results = panel(rng, &HOSPITAL_PANEL);
    // Anticoagulated: 2.4, well above the range of the healthy.
    referral.results.insert(
        0,
        Reading {
            test: &PT_INR,
            steps: 240,
        },
    );
    let report = Facts {
        results: referral.results.clone(),
        ..Facts::default()
    };
    vec![
        plan(0, DocumentKind::DischargeSummary, 640, stay.clone()),
        plan(0, DocumentKind::CdaReferral, 600, stay),
        plan(1, DocumentKind::Prescription, 14, medicines),
        plan(1, DocumentKind::Referral, 12, referral),
        plan(1, DocumentKind::PdfLabReport, 12, report),
        plan(2, DocumentKind::Referral, 75, about(&[&HYPERTENSION])),
    ]
}

/// The plans for someone without a part in the demo: one document a record.
pub(super) fn ordinary(
    rng: &mut Rng,
    regions: &[SampleRegion],
    identity: &Identity,
    records: &[SampleRecord],
    today: Date,
) -> Vec<Plan> {
    let age = today.year() - identity.birth.year();
    let fitting: Vec<_> = PROBLEMS
        .into_iter()
        .filter(|problem| problem.min_age <= age)
        .collect();
    let allergy = rng
        .percent(30)
        .then(|| *rng.pick(&ALLERGIES, &ALLERGIES[0]));
    let person = identity.truth;
    let mut plans = Vec::with_capacity(records.len());
    for (slot, record) in records.iter().enumerate() {
        let kind = ordinary_kind(rng, institution_kind(regions, record), age);
        let problem = *rng.pick(&fitting, &PROBLEMS[0]);
        let mut facts = about(&[problem]);
        facts.allergies.extend(allergy.filter(|_| slot == 0));
        match kind {
            DocumentKind::HealthCheck => {
                facts = Facts {
                    results: panel(rng, &CHECKUP_PANEL),
                    ..Facts::default()
                };
            }
            DocumentKind::Prescription if facts.drugs.is_empty() => facts = about(&[&BRONCHITIS]),
            DocumentKind::DischargeSummary => {
                facts.operations.extend(problem.operation);
                facts.results = panel(rng, &HOSPITAL_PANEL);
            }
            DocumentKind::Prescription => {}
            DocumentKind::Referral | DocumentKind::CdaReferral | DocumentKind::PdfLabReport => {
                facts.results = panel(rng, &HOSPITAL_PANEL);
            }
        }
        plans.push(Plan {
            person,
            slot,
            kind,
            days_ago: rng.between(2, 330),
            facts,
        });
    }
    plans
}

fn institution_kind(regions: &[SampleRegion], record: &SampleRecord) -> InstitutionKind {
    regions
        .get(record.region)
        .and_then(|region| region.institutions.get(record.institution))
        .map_or(InstitutionKind::Clinic, |institution| institution.kind)
}

fn ordinary_kind(rng: &mut Rng, place: InstitutionKind, age: i16) -> DocumentKind {
    let draw = rng.below(100);
    match place {
        InstitutionKind::Hospital => match draw {
            0..35 => DocumentKind::DischargeSummary,
            35..55 => DocumentKind::Referral,
            55..70 => DocumentKind::CdaReferral,
            70..85 => DocumentKind::PdfLabReport,
            _ => DocumentKind::Prescription,
        },
        // 特定健診 begins at forty.
        InstitutionKind::Clinic | InstitutionKind::Pharmacy => match draw {
            0..35 if age >= 40 => DocumentKind::HealthCheck,
            0..60 => DocumentKind::Referral,
            60..70 => DocumentKind::CdaReferral,
            70..75 => DocumentKind::PdfLabReport,
            _ => DocumentKind::Prescription,
        },
    }
}
