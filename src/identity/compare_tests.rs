use super::*;

fn person() -> Traits {
    Traits {
        kanji: vec![NameKey {
            family: "山田".into(),
            given: "花子".into(),
        }],
        kana: vec![NameKey {
            family: "ヤマダ".into(),
            given: "ハナコ".into(),
        }],
        birth: Some("1970-03-02".parse().unwrap()),
        sex: Some(Sex::Female),
        phones: vec!["0312345678".into()],
        addresses: vec!["青葉市1-2-3".into()],
        policies: vec![Policy {
            key: "1|2|3".into(),
            branch: Some("01".into()),
        }],
        ..Traits::default()
    }
}

/// Only name, birth date and sex.
fn bare() -> Traits {
    Traits {
        phones: vec![],
        addresses: vec![],
        policies: vec![],
        ..person()
    }
}

#[test]
fn name_birth_date_and_sex_alone_never_link() {
    assert_eq!(compare(&bare(), &bare()).verdict, Verdict::Review);
    assert_eq!(compare(&person(), &bare()).verdict, Verdict::Review);
}

#[test]
fn one_corroboration_links() {
    let phone = Traits {
        addresses: vec![],
        policies: vec![],
        ..person()
    };
    assert_eq!(
        compare(&person(), &phone).verdict,
        Verdict::Same(Proof::NamePhone)
    );
    let address = Traits {
        phones: vec![],
        policies: vec![],
        ..person()
    };
    assert_eq!(
        compare(&person(), &address).verdict,
        Verdict::Same(Proof::NameAddress)
    );
}

#[test]
fn a_married_name_links_by_personal_insurance() {
    let mut married = person();
    married.kanji = vec![NameKey {
        family: "鈴木".into(),
        given: "花子".into(),
    }];
    married.kana = vec![NameKey {
        family: "スズキ".into(),
        given: "ハナコ".into(),
    }];
    married.phones.clear();
    assert_eq!(
        compare(&person(), &married).verdict,
        Verdict::Same(Proof::PersonalInsurance)
    );
}

#[test]
fn twins_on_one_policy_never_link() {
    let mut twin = person();
    twin.kanji = vec![NameKey {
        family: "山田".into(),
        given: "月子".into(),
    }];
    twin.kana = vec![NameKey {
        family: "ヤマダ".into(),
        given: "ツキコ".into(),
    }];
    twin.policies = vec![Policy {
        key: "1|2|3".into(),
        branch: Some("02".into()),
    }];
    let comparison = compare(&person(), &twin);
    assert_eq!(comparison.verdict, Verdict::Distinct);
    assert!(comparison.contradicts());
    twin.policies = vec![Policy {
        key: "1|2|3".into(),
        branch: None,
    }];
    assert_ne!(
        compare(&person(), &twin).verdict,
        Verdict::Same(Proof::NamePolicy)
    );
}

#[test]
fn a_newborn_without_a_name_is_for_the_steward() {
    let newborn = Traits {
        placeholder_given: true,
        ..person()
    };
    assert_eq!(compare(&person(), &newborn).verdict, Verdict::Review);
}

#[test]
fn an_era_mistake_is_near_not_equal() {
    let mut era = person();
    era.birth = Some("2033-03-02".parse().unwrap());
    assert_eq!(compare(&person(), &era).birth, Level::Near);
    assert_ne!(compare(&person(), &era).verdict, Verdict::Distinct);
}

#[test]
fn comparison_is_symmetric() {
    let mut other = person();
    other.birth = Some("1970-03".parse().unwrap());
    other.kana = vec![NameKey {
        family: "ヤマダ".into(),
        given: "ハナヨ".into(),
    }];
    assert_eq!(compare(&person(), &other), compare(&other, &person()));
}

#[test]
fn an_unsplit_name_agrees_with_a_split_one_only() {
    let unsplit = Traits {
        kanji: vec![NameKey {
            family: "山田花子".into(),
            given: String::new(),
        }],
        kana: vec![],
        ..person()
    };
    assert_eq!(compare(&person(), &unsplit).name, Level::Agree);
    assert_eq!(compare(&unsplit, &unsplit).name, Level::Unknown);
}
