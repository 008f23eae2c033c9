use super::*;

use std::collections::HashSet;

use proptest::prelude::*;

use crate::identity::matching::cluster::Matcher;
use crate::identity::matching::keys::{Key, keys};
use crate::identity::matching::learn::learn;
use crate::identity::matching::rarity::NameKind;
use crate::identity::matching::record::Script;

/// A person, built of what is known of her.
#[derive(Clone, Debug)]
struct Given {
    kanji: (&'static str, &'static str),
    kana: (&'static str, &'static str),
    birth: &'static str,
    sex: Option<Sex>,
    phone: &'static str,
    address: &'static str,
    policy: &'static str,
    branch: &'static str,
}

const PERSON: Given = Given {
    kanji: ("山田", "花子"),
    kana: ("ヤマダ", "ハナコ"),
    birth: "1970-03-02",
    sex: Some(Sex::Female),
    phone: "090-1234-5678",
    address: "千葉県柏市豊町1-2-3",
    policy: "34",
    branch: "02",
};

/// Only name, birth date and sex.
const BARE: Given = Given {
    phone: "",
    address: "",
    policy: "",
    branch: "",
    ..PERSON
};

impl Given {
    fn traits(&self) -> Traits {
        let mut traits = Traits::default();
        for (script, (family, given)) in [
            (Script::Ideographic, self.kanji),
            (Script::Syllabic, self.kana),
        ] {
            traits.add_name(script, family, given, &|name| name == "山田");
        }
        traits.set_birth_date(self.birth);
        traits.sex = self.sex;
        traits.add_phone(self.phone);
        traits.add_address(self.address, "");
        traits.add_policy("06139463", "12", self.policy, self.branch);
        traits
    }
}

fn judge(a: &Given, b: &Given) -> Comparison {
    compare(&a.traits(), &b.traits())
}

#[test]
fn name_birth_date_and_sex_alone_never_link() {
    assert_eq!(judge(&BARE, &BARE).verdict, Verdict::Review);
    assert_eq!(judge(&PERSON, &BARE).verdict, Verdict::Review);
    // Not even the rarest name: a double of any name turns up.
    let rare = Given {
        kanji: ("蓼科沼", "麗瑠奈"),
        kana: ("タデシナヌマ", "レルナ"),
        ..BARE
    };
    assert_eq!(judge(&rare, &rare).verdict, Verdict::Review);
}

#[test]
fn one_corroboration_links() {
    for (one, proof) in [
        (
            Given {
                phone: PERSON.phone,
                ..BARE
            },
            Proof::Phone,
        ),
        (
            Given {
                address: PERSON.address,
                ..BARE
            },
            Proof::Address,
        ),
        (
            Given {
                policy: "34",
                ..BARE
            },
            Proof::Policy,
        ),
        (
            Given {
                policy: "34",
                branch: "02",
                ..BARE
            },
            Proof::PersonalInsurance,
        ),
    ] {
        assert_eq!(judge(&PERSON, &one).verdict, Verdict::Same(proof));
    }
}

#[test]
fn a_married_name_links_by_personal_insurance() {
    let married = Given {
        kanji: ("鈴木", "花子"),
        kana: ("スズキ", "ハナコ"),
        phone: "",
        ..PERSON
    };
    assert_eq!(
        judge(&PERSON, &married).verdict,
        Verdict::Same(Proof::PersonalInsurance)
    );
}

#[test]
fn twins_and_sisters_never_link() {
    let twin = Given {
        kanji: ("山田", "月子"),
        kana: ("ヤマダ", "ツキコ"),
        branch: "03",
        ..PERSON
    };
    assert!(judge(&PERSON, &twin).contradicts());
    let no_branch = Given {
        branch: "",
        ..twin.clone()
    };
    let found = judge(&PERSON, &no_branch);
    assert!(found.contradicts() && !matches!(found.verdict, Verdict::Same(_)));
    let one_character = Given {
        kanji: ("山田", "花代"),
        kana: ("ヤマダ", "ハナヨ"),
        branch: "",
        ..PERSON
    };
    assert!(!matches!(
        judge(&PERSON, &one_character).verdict,
        Verdict::Same(_)
    ));
}

#[test]
fn a_newborn_without_a_name_is_for_the_steward() {
    let newborn = Given {
        kanji: ("山田", "ベビー"),
        kana: ("ヤマダ", "ベビー"),
        ..PERSON
    };
    let found = judge(&PERSON, &newborn);
    assert_eq!(found.guard, Some(Guard::NoGivenName));
    assert!(!matches!(found.verdict, Verdict::Same(_)));
}

#[test]
fn an_era_mistake_is_near_not_equal() {
    let era = Given {
        birth: "2033-03-02",
        ..PERSON
    };
    assert_eq!(judge(&PERSON, &era).birth, Level::Near);
    assert_ne!(judge(&PERSON, &era).verdict, Verdict::Distinct);
}

#[test]
fn an_unsplit_name_agrees_with_a_split_one_only() {
    let unsplit = Given {
        kanji: ("山田花子", ""),
        kana: ("", ""),
        ..PERSON
    };
    assert_eq!(judge(&PERSON, &unsplit).name, Level::Agree);
    // A family name that no list knows cannot be split, but agrees in one piece.
    let unknown = Given {
        kanji: ("蓼科沼花子", ""),
        kana: ("", ""),
        ..PERSON
    };
    let split = Given {
        kanji: ("蓼科沼", "花子"),
        kana: ("", ""),
        ..PERSON
    };
    assert_eq!(judge(&unknown, &split).name, Level::Agree);
    assert_eq!(judge(&unknown, &unknown).guard, Some(Guard::NoGivenName));
}

#[test]
fn changed_places_and_scripts_are_seen() {
    let swapped = Given {
        kanji: ("花子", "山田"),
        kana: ("ハナコ", "ヤマダ"),
        ..PERSON
    };
    assert!(matches!(judge(&PERSON, &swapped).verdict, Verdict::Same(_)));
    let kana_in_kanji = Given {
        kanji: ("ﾔﾏﾀﾞ", "ﾊﾅｺ"),
        kana: ("", ""),
        ..PERSON
    };
    assert_eq!(judge(&PERSON, &kana_in_kanji).name, Level::Agree);
    let noted = Given {
        kanji: ("山田（旧姓鈴木）", "花子様"),
        ..PERSON
    };
    assert!(matches!(judge(&PERSON, &noted).verdict, Verdict::Same(_)));
}

#[test]
fn a_namesake_warning_stops_a_link() {
    let warned = Given {
        kanji: ("山田", "花子(同姓同名注意)"),
        ..PERSON
    };
    assert_eq!(judge(&PERSON, &warned).guard, Some(Guard::NamesakeWarning));
}

#[test]
fn the_waterfall_adds_up() {
    let found = judge(&PERSON, &PERSON);
    let sum: f32 = found.fields().iter().map(|(_, _, bits)| bits).sum();
    let (margin, rival) = found.rival();
    assert!((f64::from(sum) - margin).abs() < 0.01 && !rival.is_empty());
    assert!(found.posterior_bits() <= margin);
}

#[test]
fn what_is_learned_can_be_read_and_knows_common_names() {
    let other = Given {
        kanji: ("鈴木", "一郎"),
        kana: ("スズキ", "イチロウ"),
        birth: "1988-11-30",
        phone: "",
        address: "",
        policy: "",
        ..PERSON
    };
    let set: Vec<Traits> = [&PERSON, &PERSON, &PERSON, &BARE, &other]
        .iter()
        .map(|one| one.traits())
        .collect();
    let learned = learn(&[set], Model::shipped(), "test-1");
    let model = Model::parse(&learned.weights, &learned.frequencies).unwrap();
    assert_eq!(model.version, "test-1");
    let share = |name: &str| model.frequencies.of(NameKind::FamilyKanji, name);
    assert!(share("山田") > share("鈴木") && share("鈴木") > share("田中"));
    assert!(model.is_family("山田") && !model.is_family("田中"));
    assert!(Model::parse("given both x 1 1 1 1", "").is_err());
    assert!(Model::parse("", "nothing 山田 1").is_err());
}

fn any_person() -> impl Strategy<Value = Given> {
    let names = prop::sample::select(vec![
        (("山田", "花子"), ("ヤマダ", "ハナコ")),
        (("山田", "花代"), ("ヤマダ", "ハナヨ")),
        (("山●", "花子"), ("ヤマタ", "ハナーコ")),
        (("花子", "山田"), ("ハナコ", "ヤマダ")),
        (("山田花子", ""), ("", "")),
        (("", ""), ("ヤマダ", "ハナコ")),
        (("山田", "ベビー"), ("ヤマダ", "ベビー")),
        (("鈴木", "太郎"), ("スズキ", "タロウ")),
    ]);
    let births = prop::sample::select(vec![
        "1970-03-02",
        "1970-02-03",
        "1970-03",
        "2033-03-02",
        "1970-03-12",
        "1988-11-30",
        "",
    ]);
    let sexes = prop::sample::select(vec![Some(Sex::Female), Some(Sex::Male), None]);
    let phones = prop::sample::select(vec!["090-1234-5678", "090-1234-5679", "03-1234-5678", ""]);
    let places = prop::sample::select(vec![
        "千葉県柏市豊町1-2-3",
        "千葉県柏市豊町1-2",
        "柏市豊町1-12-3",
        "東京都港区芝1-1-1",
        "",
    ]);
    let policies = prop::sample::select(vec![
        ("3456", "02"),
        ("3456", "03"),
        ("3457", ""),
        ("999", "02"),
        ("", ""),
    ]);
    (names, births, sexes, phones, places, policies).prop_map(
        |((kanji, kana), birth, sex, phone, address, (policy, branch))| Given {
            kanji,
            kana,
            birth,
            sex,
            phone,
            address,
            policy,
            branch,
        },
    )
}

/// People in two orders: themselves, and the places they take in the second.
fn twice() -> impl Strategy<Value = (Vec<Given>, Vec<usize>)> {
    prop::collection::vec(any_person(), 2..9).prop_flat_map(|people| {
        let places: Vec<usize> = (0..people.len()).collect();
        (Just(people), Just(places).prop_shuffle())
    })
}

/// What became of people fed in an order: whose record each is, and the pairs for stewards.
fn fed(people: &[Given], order: &[usize]) -> (Vec<u32>, HashSet<(usize, usize)>) {
    let mut matcher = Matcher::new(Model::shipped());
    let mut doubts = HashSet::new();
    for at in order {
        for (other, _) in matcher.feed(people[*at].traits()).doubts {
            let other = order[other as usize];
            doubts.insert((other.min(*at), other.max(*at)));
        }
    }
    let mut persons = vec![0; people.len()];
    for (record, at) in (0..).zip(order) {
        persons[*at] = matcher.person_of(record);
    }
    (persons, doubts)
}

fn meet(a: &Traits, b: &Traits) -> bool {
    let others: HashSet<Key> = keys(b).into_iter().collect();
    keys(a).iter().any(|key| others.contains(key))
}

proptest! {
    /// The pairs that may be linked are the same in any order, since a score knows two records only;
    /// each is linked or shown to a steward, and no person holds a contradiction.
    #[test]
    fn any_order_links_the_same_or_asks((people, order) in twice()) {
        let straight: Vec<usize> = (0..people.len()).collect();
        for order in [straight, order] {
            let (persons, doubts) = fed(&people, &order);
            for (second, one) in people.iter().enumerate() {
                for (first, other) in people.iter().enumerate().take(second) {
                    let (one, other) = (one.traits(), other.traits());
                    let found = compare(&one, &other);
                    let linked = persons[first] == persons[second];
                    prop_assert!(!(linked && found.contradicts()), "a contradiction in one person");
                    if matches!(found.verdict, Verdict::Same(_)) && meet(&one, &other) {
                        let asked = doubts.contains(&(first, second));
                        prop_assert!(linked || asked, "neither linked nor asked");
                    }
                }
            }
        }
    }

    #[test]
    fn comparison_is_symmetric(a in any_person(), b in any_person()) {
        prop_assert_eq!(judge(&a, &b), judge(&b, &a));
    }

    #[test]
    fn what_contradicts_is_never_linked(a in any_person(), b in any_person()) {
        let found = judge(&a, &b);
        prop_assert!(!(found.contradicts() && matches!(found.verdict, Verdict::Same(_))));
    }
}
