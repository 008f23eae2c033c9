//! Diagnoses, drugs, tests and the like, with the national code systems they are sent in.
//!
//! Codes are those of the published tables where we could check them; a drug's code may be that of
//! another strength. Diagnoses carry ICD-10 and, as systems without the MEDIS master send it, the
//! MEDIS number for "not coded". Nothing here is fit for clinical use.

/// A diagnosis.
pub(super) struct Problem {
    pub(super) name: &'static str,
    pub(super) icd10: &'static str,
    /// MEDIS 病名交換用コード, where we know it.
    pub(super) exchange_code: Option<&'static str>,
    pub(super) department: Department,
    /// Not given to anyone younger.
    pub(super) min_age: i16,
    pub(super) drugs: &'static [&'static Drug],
    /// What surgery is done for it.
    pub(super) operation: Option<&'static Operation>,
}

/// 診療科, of the SS-MIX2 table.
#[derive(Clone, Copy)]
pub(super) enum Department {
    Internal,
    Psychiatry,
    Cardiology,
    Paediatrics,
    Surgery,
    Orthopaedics,
    Eyes,
}

/// A drug as prescribed.
pub(super) struct Drug {
    pub(super) name: &'static str,
    pub(super) code: DrugCode,
    /// Tablets or capsules a day.
    pub(super) daily: i32,
    pub(super) usage: Usage,
}

/// The code system a drug comes in.
pub(super) enum DrugCode {
    /// 個別医薬品コード, 12 characters.
    Yj(&'static str),
    /// 医薬品基準番号, 9 digits.
    Hot9(&'static str),
}

/// 用法, of the JAMI table.
#[derive(Clone, Copy)]
pub(super) enum Usage {
    OnceAfterBreakfast,
    TwiceAfterMeals,
    ThriceAfterMeals,
}

/// An allergy or intolerance.
pub(super) struct Allergy {
    pub(super) name: &'static str,
    /// WHO ATC group of a medicine.
    pub(super) atc: Option<&'static str>,
    pub(super) category: &'static str,
    pub(super) severe: bool,
    pub(super) reaction: &'static str,
}

/// An operation with its 診療報酬 K code.
pub(super) struct Operation {
    pub(super) name: &'static str,
    pub(super) code: &'static str,
}

const fn drug(name: &'static str, yj: &'static str, daily: i32, usage: Usage) -> Drug {
    Drug {
        name,
        code: DrugCode::Yj(yj),
        daily,
        usage,
    }
}

pub(super) static WARFARIN: Drug = drug(
    "ワルファリンＫ錠１ｍｇ",
    "3332001F1083",
    2,
    Usage::OnceAfterBreakfast,
);
pub(super) static AMLODIPINE: Drug = drug(
    "ノルバスク錠２．５ｍｇ",
    "2171022F1029",
    1,
    Usage::OnceAfterBreakfast,
);
pub(super) static BISOPROLOL: Drug = drug(
    "ビソプロロールフマル酸塩錠２．５ｍｇ",
    "2123016F1174",
    1,
    Usage::OnceAfterBreakfast,
);
pub(super) static METFORMIN: Drug = drug(
    "メトホルミン塩酸塩錠２５０ｍｇ",
    "3962002F2124",
    2,
    Usage::TwiceAfterMeals,
);
static CANDESARTAN: Drug = drug(
    "カンデサルタン錠４ｍｇ",
    "2149040F1093",
    1,
    Usage::OnceAfterBreakfast,
);
static FUROSEMIDE: Drug = drug(
    "フロセミド錠２０ｍｇ",
    "2139005F1060",
    1,
    Usage::OnceAfterBreakfast,
);
static LOXOPROFEN: Drug = drug(
    "ロキソプロフェンＮａ錠６０ｍｇ",
    "1149019F1706",
    3,
    Usage::ThriceAfterMeals,
);
static PREDNISOLONE: Drug = Drug {
    name: "プレドニン錠５ｍｇ",
    code: DrugCode::Hot9("105271807"),
    daily: 1,
    usage: Usage::OnceAfterBreakfast,
};
static CARBOCISTEINE: Drug = Drug {
    name: "ムコダイン錠２５０ｍｇ",
    code: DrugCode::Hot9("103835401"),
    daily: 3,
    usage: Usage::ThriceAfterMeals,
};

const fn problem(
    name: &'static str,
    icd10: &'static str,
    department: Department,
    min_age: i16,
    drugs: &'static [&'static Drug],
) -> Problem {
    Problem {
        name,
        icd10,
        exchange_code: None,
        department,
        min_age,
        drugs,
        operation: None,
    }
}

pub(super) static ATRIAL_FIBRILLATION: Problem = problem(
    "心房細動",
    "I489",
    Department::Cardiology,
    60,
    &[&WARFARIN, &BISOPROLOL],
);
pub(super) static HYPERTENSION: Problem = problem(
    "高血圧症",
    "I10",
    Department::Internal,
    35,
    &[&AMLODIPINE, &CANDESARTAN],
);
pub(super) static DIABETES: Problem = problem(
    "２型糖尿病",
    "E119",
    Department::Internal,
    35,
    &[&METFORMIN],
);
pub(super) static ASTHMA: Problem = problem(
    "気管支喘息",
    "J459",
    Department::Internal,
    1,
    &[&CARBOCISTEINE, &PREDNISOLONE],
);
pub(super) static BRONCHITIS: Problem = problem(
    "急性気管支炎",
    "J209",
    Department::Internal,
    1,
    &[&CARBOCISTEINE],
);
pub(super) static SICK_SINUS: Problem = Problem {
    operation: Some(&PACEMAKER_IMPLANTATION),
    ..problem("洞不全症候群", "I495", Department::Cardiology, 60, &[])
};
pub(super) static APPENDICITIS: Problem = Problem {
    name: "急性化膿性虫垂炎",
    icd10: "K358",
    exchange_code: Some("HR19"),
    department: Department::Surgery,
    min_age: 5,
    drugs: &[],
    operation: Some(&APPENDECTOMY),
};
static COLITIS: Problem = Problem {
    name: "大腸炎",
    icd10: "A099",
    exchange_code: Some("VSES"),
    department: Department::Internal,
    min_age: 15,
    drugs: &[],
    operation: None,
};
static RADIUS_FRACTURE: Problem = Problem {
    name: "橈骨遠位端骨折",
    icd10: "S5250",
    exchange_code: Some("CJTR"),
    department: Department::Orthopaedics,
    min_age: 5,
    drugs: &[&LOXOPROFEN],
    operation: Some(&FRACTURE_SURGERY),
};
static HEART_FAILURE: Problem = problem(
    "慢性心不全",
    "I509",
    Department::Cardiology,
    65,
    &[&FUROSEMIDE, &BISOPROLOL],
);
static CATARACT: Problem = Problem {
    operation: Some(&CATARACT_SURGERY),
    ..problem("白内障", "H269", Department::Eyes, 60, &[])
};
pub(super) static DEPRESSION: Problem = problem("うつ病", "F329", Department::Psychiatry, 18, &[]);

pub(super) static PROBLEMS: [&Problem; 11] = [
    &BRONCHITIS,
    &HYPERTENSION,
    &DIABETES,
    &ASTHMA,
    &APPENDICITIS,
    &COLITIS,
    &RADIUS_FRACTURE,
    &HEART_FAILURE,
    &CATARACT,
    &DEPRESSION,
    &ATRIAL_FIBRILLATION,
];

pub(super) static PENICILLIN: Allergy = Allergy {
    name: "ペニシリン系抗生物質",
    atc: Some("J01C"),
    category: "medication",
    severe: true,
    reaction: "アナフィラキシーショック",
};
pub(super) static CONTRAST: Allergy = Allergy {
    name: "ヨード造影剤",
    atc: Some("V08A"),
    category: "medication",
    severe: true,
    reaction: "呼吸困難、全身性蕁麻疹",
};
static ASPIRIN: Allergy = Allergy {
    name: "アスピリン",
    atc: Some("N02BA01"),
    category: "medication",
    severe: false,
    reaction: "喘息発作",
};
pub(super) static EGG: Allergy = Allergy {
    name: "鶏卵",
    atc: None,
    category: "food",
    severe: false,
    reaction: "蕁麻疹",
};
static BUCKWHEAT: Allergy = Allergy {
    name: "そば",
    atc: None,
    category: "food",
    severe: true,
    reaction: "呼吸困難",
};
static LATEX: Allergy = Allergy {
    name: "ラテックス",
    atc: None,
    category: "environment",
    severe: false,
    reaction: "接触皮膚炎",
};

pub(super) static ALLERGIES: [&Allergy; 6] =
    [&PENICILLIN, &CONTRAST, &ASPIRIN, &EGG, &BUCKWHEAT, &LATEX];

pub(super) static PACEMAKER_IMPLANTATION: Operation = Operation {
    name: "ペースメーカー移植術（経静脈電極）",
    code: "K597",
};
static APPENDECTOMY: Operation = Operation {
    name: "腹腔鏡下虫垂切除術",
    code: "K718-2",
};
static CATARACT_SURGERY: Operation = Operation {
    name: "水晶体再建術",
    code: "K282",
};
static FRACTURE_SURGERY: Operation = Operation {
    name: "骨折観血的手術（前腕）",
    code: "K046",
};

/// The only device of the sample.
pub(super) const PACEMAKER: &str = "植込み型心臓ペースメーカ（DDD、条件付きMRI対応）";
