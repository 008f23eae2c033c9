//! Laboratory tests and measurements, and the panels they are ordered in.

/// A test with its JLAC10 code, UCUM unit and reference range in steps of `10^-decimals`.
pub(super) struct Test {
    pub(super) name: &'static str,
    pub(super) jlac10: &'static str,
    pub(super) unit: &'static str,
    pub(super) ucum: &'static str,
    pub(super) range: (i32, i32),
    pub(super) decimals: i32,
}

const fn test(
    name: &'static str,
    jlac10: &'static str,
    (unit, ucum): (&'static str, &'static str),
    range: (i32, i32),
    decimals: i32,
) -> Test {
    Test {
        name,
        jlac10,
        unit,
        ucum,
        range,
        decimals,
    }
}

const MG_DL: (&str, &str) = ("mg/dL", "mg/dL");
const U_L: (&str, &str) = ("U/L", "U/L");

pub(super) static PT_INR: Test = test(
    "PT-INR",
    "2B030000002231157",
    ("INR", "{INR}"),
    (90, 110),
    2,
);
static HBA1C: Test = test("HbA1c(NGSP)", "3D046000001906202", ("%", "%"), (46, 62), 1);
static HAEMOGLOBIN: Test = test(
    "ヘモグロビン",
    "2A030000001930101",
    ("g/dL", "g/dL"),
    (116, 168),
    1,
);
static PLATELETS: Test = test(
    "血小板数",
    "2A050000001930101",
    ("万/μL", "10*4/uL"),
    (158, 348),
    1,
);
static CREATININE: Test = test("クレアチニン", "3C015000002327101", MG_DL, (46, 107), 2);
static EGFR: Test = test(
    "推算GFR",
    "8A065000002391901",
    ("mL/min/1.73m2", "mL/min/{1.73_m2}"),
    (600, 1200),
    1,
);
static POTASSIUM: Test = test(
    "カリウム",
    "3H015000002326101",
    ("mmol/L", "mmol/L"),
    (36, 48),
    1,
);
static AST: Test = test("AST(GOT)", "3B035000002327201", U_L, (13, 30), 0);
static ALT: Test = test("ALT(GPT)", "3B045000002327201", U_L, (7, 42), 0);
static GAMMA_GT: Test = test("γ-GT", "3B090000002327101", U_L, (9, 64), 0);
static LDL: Test = test(
    "LDLコレステロール",
    "3F077000002327101",
    MG_DL,
    (65, 163),
    0,
);
static HDL: Test = test(
    "HDLコレステロール",
    "3F070000002327101",
    MG_DL,
    (38, 103),
    0,
);
static TRIGLYCERIDE: Test = test("中性脂肪", "3F015000002327101", MG_DL, (30, 150), 0);
static GLUCOSE: Test = test("空腹時血糖", "3D010000001926101", MG_DL, (73, 109), 0);
static SYSTOLIC: Test = test(
    "収縮期血圧",
    "9A755000000000001",
    ("mmHg", "mm[Hg]"),
    (100, 139),
    0,
);
static DIASTOLIC: Test = test(
    "拡張期血圧",
    "9A765000000000001",
    ("mmHg", "mm[Hg]"),
    (60, 89),
    0,
);
static HEIGHT: Test = test("身長", "9N001000000000001", ("cm", "cm"), (1450, 1800), 1);
static WEIGHT: Test = test("体重", "9N006000000000001", ("kg", "kg"), (450, 780), 1);

/// What an ill person's blood is tested for.
pub(super) static HOSPITAL_PANEL: [&Test; 7] = [
    &HAEMOGLOBIN,
    &PLATELETS,
    &CREATININE,
    &EGFR,
    &POTASSIUM,
    &HBA1C,
    &AST,
];

/// What a 特定健診 measures.
pub(super) static CHECKUP_PANEL: [&Test; 12] = [
    &HEIGHT,
    &WEIGHT,
    &SYSTOLIC,
    &DIASTOLIC,
    &TRIGLYCERIDE,
    &HDL,
    &LDL,
    &AST,
    &ALT,
    &GAMMA_GT,
    &GLUCOSE,
    &HBA1C,
];
