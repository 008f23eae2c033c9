//! The wire's messages as JSON, read by their descriptors, so that no field can be forgotten.
//!
//! The standard protobuf JSON mapping with the names of the `.proto` files: enums by name, times as
//! RFC 3339, durations in seconds (`1.5s`), octets in base64; fields without presence are always
//! there. One difference: 64-bit integers are numbers, not strings, for the sake of `jq`.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use anyhow::{Context as _, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, Bytes};
use jiff::Timestamp;
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet, MessageOptions,
};
use serde_json::{Map, Value, json};

use crate::wire::{DESCRIPTORS, pb};

/// A message that can be printed, with its full name on the wire.
pub(crate) trait Wire: Message {
    /// Full name, such as `renkei.identity.v1.FeedPatientResponse`.
    const NAME: &'static str;
}

macro_rules! printable {
    ($($area:ident: $($message:ident)+;)+) => {
        $($(impl Wire for pb::$area::$message {
            const NAME: &'static str =
                concat!("renkei.", stringify!($area), ".v1.", stringify!($message));
        })+)+

        #[cfg(test)]
        const PRINTABLE: &[&str] = &[$($(<pb::$area::$message as Wire>::NAME,)+)+];
    };
}

printable! {
    common: Completeness RegionStatus;
    identity: FeedPatientResponse MergePatientsResponse UnmergePatientsResponse LinkPatientsResponse
        UnlinkPatientsResponse QueryIdentifiersResponse SearchPatientsResponse MatchPatientResponse
        GetPatientResponse GetPersonHistoryResponse ListReviewTasksResponse GetReviewTaskResponse
        DecideReviewTaskResponse UndoReviewDecisionResponse AssignReviewTaskResponse Patient
        SplitPersonResponse CheckDuplicatesResponse WatchIdentifierChangesResponse
        LoadPatientsResponse;
    documents: ProvideDocumentsResponse QueryRegistryResponse;
    federation: InitiatingGatewayServiceFindDocumentsResponse LocateHoldingsResponse
        InitiatingGatewayServiceDiscoverPatientResponse;
    emergency: IdentifyPatientResponse OpenBreakGlassResponse CloseBreakGlassResponse
        GetSummaryResponse ListAccessNoticesResponse ReviewAccessResponse;
    consent: RecordConsentResponse WithdrawConsentResponse ListConsentsResponse;
    audit: SearchEventsResponse ReportPatientAccessResponse GetCheckpointResponse
        ExportEventsResponse;
    directory: ApplyDirectoryRequest ApplyDirectoryResponse ListCommunitiesResponse
        ListInstitutionsResponse GetRegionStatusResponse SuspendInstitutionResponse;
    admin: GetNodeInfoResponse GetStatusResponse ReloadConfigurationResponse Purge
        ListPurgesResponse;
}

/// `message` as JSON.
pub(crate) fn value<M: Wire>(message: &M) -> Result<Value> {
    read(M::NAME, Bytes::from(message.encode_to_vec()))
        .with_context(|| format!("cannot show {}", M::NAME))
}

/// What is known of one message type.
#[derive(Debug, Default)]
struct Shape {
    fields: BTreeMap<u32, Field>,
    map_entry: bool,
}

#[derive(Debug)]
struct Field {
    name: String,
    repeated: bool,
    /// Absent is told apart from zero.
    presence: bool,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Scalar(Type),
    Enum(String),
    Message(String),
}

/// Every message and enum of `proto/`, by full name without the leading dot.
#[derive(Debug, Default)]
struct Shapes {
    messages: HashMap<String, Shape>,
    enums: HashMap<String, HashMap<i32, String>>,
}

static SHAPES: LazyLock<Shapes> = LazyLock::new(|| {
    let mut shapes = Shapes::default();
    // Built into the program; a test reads it.
    for file in FileDescriptorSet::decode(DESCRIPTORS)
        .unwrap_or_default()
        .file
    {
        let package = file.package().to_owned();
        shapes.add(&package, &file.message_type, &file.enum_type);
    }
    shapes
});

impl Shapes {
    fn add(&mut self, scope: &str, messages: &[DescriptorProto], enums: &[EnumDescriptorProto]) {
        for one in enums {
            let values = one.value.iter();
            let names = values.map(|value| (value.number(), value.name().to_owned()));
            let name = format!("{scope}.{}", one.name());
            self.enums.insert(name, names.collect());
        }
        for one in messages {
            let name = format!("{scope}.{}", one.name());
            self.add(&name, &one.nested_type, &one.enum_type);
            let fields = one.field.iter().filter_map(|field| {
                let number = u32::try_from(field.number()).ok()?;
                Some((number, Field::of(field)))
            });
            let shape = Shape {
                fields: fields.collect(),
                map_entry: one.options.as_ref().is_some_and(MessageOptions::map_entry),
            };
            self.messages.insert(name, shape);
        }
    }
}

impl Field {
    fn of(field: &FieldDescriptorProto) -> Self {
        let type_name = field.type_name().trim_start_matches('.').to_owned();
        let kind = match field.r#type() {
            Type::Enum => Kind::Enum(type_name),
            Type::Message => Kind::Message(type_name),
            scalar => Kind::Scalar(scalar),
        };
        Self {
            name: field.name().to_owned(),
            repeated: field.label() == Label::Repeated,
            presence: field.oneof_index.is_some() || matches!(kind, Kind::Message(_)),
            kind,
        }
    }

    /// What a field that is not on the wire is shown as.
    fn default(&self) -> Option<Value> {
        if self.repeated {
            let map = matches!(&self.kind, Kind::Message(name) if is_map(name));
            return Some(if map { json!({}) } else { json!([]) });
        }
        if self.presence {
            return None;
        }
        Some(match &self.kind {
            Kind::Enum(name) => enum_value(name, 0),
            Kind::Scalar(Type::String | Type::Bytes) => json!(""),
            Kind::Scalar(Type::Bool) => json!(false),
            Kind::Scalar(Type::Double | Type::Float) => json!(0.0),
            Kind::Scalar(_) | Kind::Message(_) => json!(0),
        })
    }
}

fn is_map(name: &str) -> bool {
    SHAPES.messages.get(name).is_some_and(|one| one.map_entry)
}

fn enum_value(name: &str, number: i32) -> Value {
    let known = SHAPES.enums.get(name).and_then(|names| names.get(&number));
    known.map_or_else(|| json!(number), |name| json!(name))
}

/// Reads a message of type `name` from `bytes`.
fn read(name: &str, bytes: Bytes) -> Result<Value> {
    match name {
        "google.protobuf.Timestamp" => return Ok(timestamp(&Message::decode(bytes)?)),
        "google.protobuf.Duration" => return Ok(duration(&Message::decode(bytes)?)),
        _ => {}
    }
    let shape = SHAPES
        .messages
        .get(name)
        .ok_or_else(|| anyhow!("{name} is not in the descriptors"))?;
    let defaults = shape.fields.values();
    let mut object: Map<String, Value> = defaults
        .filter_map(|field| Some((field.name.clone(), field.default()?)))
        .collect();
    let mut bytes = bytes;
    while bytes.has_remaining() {
        let (number, wire_type) = decode_key(&mut bytes)?;
        match shape.fields.get(&number) {
            Some(field) => take(field, wire_type, &mut bytes, &mut object)?,
            None => skip_field(wire_type, number, &mut bytes, DecodeContext::default())?,
        }
    }
    Ok(Value::Object(object))
}

/// Takes one occurrence of `field` off `bytes` into `object`.
fn take(
    field: &Field,
    wire_type: WireType,
    bytes: &mut Bytes,
    object: &mut Map<String, Value>,
) -> Result<()> {
    if !field.repeated {
        let value = one(&field.kind, bytes)?;
        object.insert(field.name.clone(), value);
        return Ok(());
    }
    let mut values = Vec::new();
    if wire_type == WireType::LengthDelimited && is_packable(&field.kind) {
        let mut packed = block(bytes)?;
        while packed.has_remaining() {
            values.push(one(&field.kind, &mut packed)?);
        }
    } else {
        values.push(one(&field.kind, bytes)?);
    }
    match object.get_mut(&field.name) {
        Some(Value::Array(list)) => list.append(&mut values),
        Some(Value::Object(map)) => map.extend(values.into_iter().filter_map(entry)),
        _ => bail!("{} has no list", field.name),
    }
    Ok(())
}

/// A map's entry message as key and value.
fn entry(message: Value) -> Option<(String, Value)> {
    let Value::Object(mut entry) = message else {
        return None;
    };
    let key = match entry.remove("key")? {
        Value::String(key) => key,
        other => other.to_string(),
    };
    Some((key, entry.remove("value").unwrap_or(Value::Null)))
}

fn is_packable(kind: &Kind) -> bool {
    match kind {
        Kind::Enum(_) => true,
        Kind::Scalar(scalar) => !matches!(scalar, Type::String | Type::Bytes),
        Kind::Message(_) => false,
    }
}

fn block(bytes: &mut Bytes) -> Result<Bytes> {
    let length = usize::try_from(decode_varint(bytes)?)?;
    if length > bytes.remaining() {
        bail!("message is cut off");
    }
    Ok(bytes.split_to(length))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "32-bit values travel as 64-bit varints, sign-extended"
)]
fn one(kind: &Kind, bytes: &mut Bytes) -> Result<Value> {
    let scalar = match kind {
        Kind::Message(name) => return read(name, block(bytes)?),
        Kind::Enum(name) => return Ok(enum_value(name, decode_varint(bytes)? as i32)),
        Kind::Scalar(scalar) => scalar,
    };
    Ok(match scalar {
        Type::String => json!(std::str::from_utf8(&block(bytes)?)?),
        Type::Bytes => json!(STANDARD.encode(block(bytes)?)),
        Type::Bool => json!(decode_varint(bytes)? != 0),
        Type::Uint32 | Type::Uint64 => json!(decode_varint(bytes)?),
        Type::Int32 | Type::Int64 => json!(decode_varint(bytes)? as i64),
        Type::Double => json!(bytes.try_get_f64_le()?),
        other => bail!("fields of type {} are not in use", other.as_str_name()),
    })
}

fn timestamp(time: &prost_types::Timestamp) -> Value {
    match Timestamp::new(time.seconds, time.nanos) {
        Ok(time) => json!(time.to_string()),
        Err(_) => Value::Null,
    }
}

fn duration(duration: &prost_types::Duration) -> Value {
    let sign = if duration.seconds < 0 || duration.nanos < 0 {
        "-"
    } else {
        ""
    };
    let (seconds, nanos) = (
        duration.seconds.unsigned_abs(),
        duration.nanos.unsigned_abs(),
    );
    let text = format!("{sign}{seconds}.{nanos:09}");
    json!(format!(
        "{}s",
        text.trim_end_matches('0').trim_end_matches('.')
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_printable_message_is_described() {
        for name in PRINTABLE {
            assert!(SHAPES.messages.contains_key(*name), "{name}");
        }
    }

    #[test]
    fn names_and_defaults_are_those_of_the_wire() {
        let message = pb::identity::FeedPatientResponse {
            linkage_id: "L".into(),
            outcome: pb::identity::FeedOutcome::Linked.into(),
            version: u64::MAX,
            warnings: vec!["check digit".into(), "kana".into()],
            evidence: Some(pb::identity::MatchEvidence {
                bits: -1.5,
                ..Default::default()
            }),
            ..Default::default()
        };
        let json = value(&message).unwrap();
        assert_eq!(json["linkage_id"], "L");
        assert_eq!(json["outcome"], "FEED_OUTCOME_LINKED");
        assert_eq!(json["version"], u64::MAX);
        assert_eq!(json["warnings"], json!(["check digit", "kana"]));
        assert_eq!(json["evidence"]["bits"], -1.5);
        assert_eq!(json["evidence"]["rule"], "");
        assert_eq!(json["possible_duplicates"], json!([]));
        assert!(json.get("parent").is_none(), "absent messages stay absent");
    }

    #[test]
    fn times_maps_lists_and_oneofs() {
        let status = pb::admin::GetStatusResponse {
            counts: [("patients".to_owned(), 3)].into(),
            ..Default::default()
        };
        assert_eq!(value(&status).unwrap()["counts"], json!({"patients": 3}));

        let info = pb::admin::GetNodeInfoResponse {
            roles: vec![1, 99],
            started: Some(prost_types::Timestamp {
                seconds: 0,
                nanos: 500_000_000,
            }),
            uptime: Some(prost_types::Duration {
                seconds: 1,
                nanos: 500_000_000,
            }),
            ..Default::default()
        };
        let json = value(&info).unwrap();
        assert_eq!(json["roles"], json!(["NODE_ROLE_IDENTITY", 99]));
        assert_eq!(json["started"], "1970-01-01T00:00:00.5Z");
        assert_eq!(json["uptime"], "1.5s");

        let part = pb::audit::ReportPatientAccessResponse {
            part: Some(pb::audit::report_patient_access_response::Part::Summary(
                pb::audit::ReportSummary {
                    event_count: 2,
                    ..Default::default()
                },
            )),
        };
        let json = value(&part).unwrap();
        assert_eq!(json["summary"]["event_count"], 2);
        assert!(json.get("event").is_none());
    }
}
