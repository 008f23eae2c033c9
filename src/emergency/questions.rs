//! What to ask next: what tells the candidates apart, or confirms the only one.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::identity::compare::{Policy, Traits};
use crate::identity::matching::normalize::address::Place;
use crate::identity::matching::normalize::date::BirthDate;
use crate::identity::traits_of;
use crate::wire::pb::emergency as pb;
use crate::wire::pb::identity as ipb;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    Branch,
    BirthDate,
    Name,
    Telephone,
    Address,
    Sex,
}

/// Everything, in the order it is asked for if it tells equally much.
const ITEMS: [Item; 6] = [
    Item::Branch,
    Item::BirthDate,
    Item::Name,
    Item::Telephone,
    Item::Address,
    Item::Sex,
];

impl Item {
    /// Whether it was heard, so that there is no more to ask.
    fn is_heard(self, heard: &Traits) -> bool {
        match self {
            // Without a card there is no branch of one.
            Self::Branch => {
                let mut cards = heard.policies.iter();
                cards.all(|card| card.branch.is_some() || card.number.is_personal())
            }
            Self::BirthDate => heard.birth.is_some_and(BirthDate::is_full),
            Self::Name => heard.names().any(|(_, name)| !name.given.is_empty()),
            Self::Telephone => !heard.phones.is_empty(),
            Self::Address => heard.places.iter().any(Place::is_street),
            Self::Sex => heard.sex.is_some(),
        }
    }

    /// What is known of somebody; `None` if nothing is.
    fn known(self, heard: &Traits, known: &Traits) -> Option<String> {
        match self {
            Self::Branch => {
                let on_card = |one: &Policy| {
                    let mut cards = heard.policies.iter();
                    cards.any(|card| card.number == one.number)
                };
                let mut policies = known.policies.iter();
                let known = policies.find(|one| one.branch.is_some() && on_card(one));
                known.map(|one| format!("{:?}", one.branch))
            }
            Self::BirthDate => {
                let date = known.birth;
                date.map(|date| format!("{}-{}-{}", date.year, date.month, date.day))
            }
            Self::Name => {
                let mut names = known.kana.iter().chain(&known.kanji).chain(&known.romaji);
                let name = names.find(|name| !name.given.is_empty())?;
                Some(match only_given(heard) {
                    true => name.given.to_string(),
                    false => name.joined(),
                })
            }
            Self::Telephone => known.phones.first().map(ToString::to_string),
            Self::Address => {
                let place = known.places.first();
                place.map(|place| format!("{}-{}-{:?}", place.city, place.town, place.numbers))
            }
            Self::Sex => known.sex.map(|sex| format!("{sex:?}")),
        }
    }

    fn question(self, heard: &Traits) -> pb::NextQuestion {
        let (field, text) = match self {
            Self::Branch => (
                "branch",
                "被保険者番号の枝番 (branch of the insured number)",
            ),
            Self::BirthDate => ("birth_date", "生年月日 (birth date)"),
            Self::Name if only_given(heard) => ("given_name", "名 (given name)"),
            Self::Name => ("name", "氏名 (name)"),
            Self::Telephone => ("telephone", "電話番号 (telephone)"),
            Self::Address => ("address", "住所 (address)"),
            Self::Sex => ("administrative_gender", "性別 (sex)"),
        };
        pb::NextQuestion {
            field: field.to_owned(),
            text: text.to_owned(),
        }
    }
}

/// Whether only the given name is missing: those on one card share the family name as a rule.
fn only_given(heard: &Traits) -> bool {
    !heard.policies.is_empty() || heard.names().next().is_some()
}

/// What to ask next, the most telling first. Of several candidates, what they differ in; of a single one
/// who is not certain, what would confirm it; if that is nothing, what was not heard yet.
pub(super) fn next_questions(
    request: &pb::IdentifyPatientRequest,
    found: &[ipb::MatchCandidate],
) -> Vec<pb::NextQuestion> {
    let Some(heard) = heard(request) else {
        return Vec::new();
    };
    if let [only] = found
        && only.grade() == ipb::MatchGrade::Certain
    {
        return Vec::new();
    }
    let people: Vec<Traits> = found.iter().map(known).collect();
    let open = ITEMS.into_iter().filter(|item| !item.is_heard(&heard));
    let mut items: Vec<(usize, Item)> = open
        .map(|item| (tells(item, &heard, &people), item))
        .collect();
    if items.iter().any(|(tells, _)| *tells > 0) {
        items.retain(|(tells, _)| *tells > 0);
        items.sort_by_key(|(tells, _)| Reverse(*tells));
    }
    let items = items.iter();
    items.map(|(_, item)| item.question(&heard)).collect()
}

/// How much an answer would tell: into how many groups it parts several people, one of them being those
/// of whom it is not known; 1 if it confirms a single one. 0 if it tells nothing.
fn tells(item: Item, heard: &Traits, people: &[Traits]) -> usize {
    let values = people.iter().map(|one| item.known(heard, one));
    let values: BTreeSet<Option<String>> = values.collect();
    match people {
        [_] => values.iter().flatten().count(),
        _ if values.len() < 2 => 0,
        _ => values.len(),
    }
}

/// What was heard; `None` if somebody was named by an id.
fn heard(request: &pb::IdentifyPatientRequest) -> Option<Traits> {
    use pb::identify_patient_request::Subject;
    let mut heard = ipb::Demographics::default();
    match request.subject.as_ref()? {
        Subject::InsuredPerson(coverage) => {
            heard.coverages.push(coverage.clone());
            heard.birth_date.clone_from(&request.birth_date);
        }
        Subject::FourItems(items) => {
            heard.names.push(ipb::PersonName {
                text: items.name.clone(),
                ..ipb::PersonName::default()
            });
            heard.birth_date.clone_from(&items.birth_date);
            heard.administrative_gender = items.administrative_gender;
            heard.addresses.push(ipb::Address {
                text: items.address.clone(),
                ..ipb::Address::default()
            });
            heard.telecoms.push(ipb::Telecom {
                value: items.telephone.clone(),
                ..ipb::Telecom::default()
            });
        }
        Subject::LinkageId(_) | Subject::PatientId(_) => return None,
    }
    Some(traits_of(&heard))
}

fn known(candidate: &ipb::MatchCandidate) -> Traits {
    let person = candidate.person.as_ref();
    let demographics = person.and_then(|person| person.demographics.as_ref());
    demographics.map(traits_of).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pb::identify_patient_request::Subject;

    /// Somebody of the family 佐藤 on one card.
    fn member(
        given: &str,
        born: &str,
        branch: &str,
        grade: ipb::MatchGrade,
    ) -> ipb::MatchCandidate {
        let demographics = ipb::Demographics {
            names: vec![ipb::PersonName {
                family: "佐藤".to_owned(),
                given: vec![given.to_owned()],
                ..ipb::PersonName::default()
            }],
            birth_date: born.to_owned(),
            coverages: vec![card(branch)],
            addresses: vec![ipb::Address {
                text: "東京都文京区見本町3-7-1".to_owned(),
                ..ipb::Address::default()
            }],
            ..ipb::Demographics::default()
        };
        ipb::MatchCandidate {
            person: Some(ipb::Person {
                demographics: Some(demographics),
                ..ipb::Person::default()
            }),
            grade: grade.into(),
            ..ipb::MatchCandidate::default()
        }
    }

    fn card(branch: &str) -> ipb::InsuranceCoverage {
        ipb::InsuranceCoverage {
            insurer_number: "06139463".to_owned(),
            symbol: "12".to_owned(),
            number: "187".to_owned(),
            branch: branch.to_owned(),
            ..ipb::InsuranceCoverage::default()
        }
    }

    fn asked(subject: Subject, found: &[ipb::MatchCandidate]) -> Vec<String> {
        let request = pb::IdentifyPatientRequest {
            subject: Some(subject),
            ..pb::IdentifyPatientRequest::default()
        };
        let questions = next_questions(&request, found).into_iter();
        questions.map(|question| question.field).collect()
    }

    #[test]
    fn a_card_of_several_asks_for_what_tells_them_apart() {
        use ipb::MatchGrade::Possible;
        let found = [
            member("花子", "1950-04-01", "01", Possible),
            member("一郎", "1948-01-20", "02", Possible),
        ];
        let questions = asked(Subject::InsuredPerson(card("")), &found);
        assert_eq!(questions, ["branch", "birth_date", "given_name"]);
        // With the branch there is none to ask for.
        let questions = asked(Subject::InsuredPerson(card("01")), &found);
        assert_eq!(questions, ["birth_date", "given_name"]);
    }

    #[test]
    fn what_all_agree_in_is_not_asked_for() {
        use ipb::MatchGrade::Possible;
        let found = [
            member("花子", "1950-04-01", "", Possible),
            member("花子", "1950-09-30", "", Possible),
            member("花", "1971-11-23", "", Possible),
        ];
        let heard = |name: &str, birth_date: &str| {
            Subject::FourItems(pb::FourItems {
                name: name.to_owned(),
                birth_date: birth_date.to_owned(),
                ..pb::FourItems::default()
            })
        };
        let questions = asked(heard("佐藤", ""), &found);
        assert_eq!(questions, ["birth_date", "given_name"]);
        // A year is not all of a birth date.
        let questions = asked(heard("佐藤 花子", "1950"), &found[..2]);
        assert_eq!(questions, ["birth_date"]);
        // Nothing tells them apart that is known: what was not heard may.
        let questions = asked(heard("佐藤 花子", "1950-04-01"), &[]);
        assert_eq!(questions, ["telephone", "address", "administrative_gender"]);
    }

    #[test]
    fn a_single_one_is_confirmed_unless_certain() {
        use ipb::MatchGrade::{Certain, Probable};
        let heard = || {
            Subject::FourItems(pb::FourItems {
                name: "佐藤 花子".to_owned(),
                ..pb::FourItems::default()
            })
        };
        let one = |grade| [member("花子", "1950-04-01", "", grade)];
        assert_eq!(asked(heard(), &one(Probable)), ["birth_date", "address"]);
        assert!(asked(heard(), &one(Certain)).is_empty());
        assert!(asked(Subject::LinkageId("x".to_owned()), &[]).is_empty());
    }
}
