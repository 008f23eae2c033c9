//! The closed vocabulary of failure.
//!
//! Every service returns [`Error`]: a [`Reason`] out of one catalogue, the field that was wrong if
//! there was one, and a message that may leave the node (so it never holds patient data, INV-8).
//! Each door maps the reason's [`ErrorKind`] once: gRPC in `api::grpc::status`. The catalogue is
//! printed in `docs/errors.md`, which a test compares with this file.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// What a failure means to a caller, whichever door the call came through.
///
/// Deliberately small and deliberately not `#[non_exhaustive]`: a new kind must not compile until
/// every door has an answer for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is malformed; repeating it unchanged cannot succeed.
    Invalid,
    /// Nobody known to this node is calling.
    Unauthenticated,
    /// The caller is known but may not; the text never says whether data exists (INV-3).
    Denied,
    /// The thing named is not here, as far as this caller may know.
    NotFound,
    /// It is already here, with other content.
    Conflict,
    /// The request is well formed, but the state of the node does not allow it.
    Precondition,
    /// A limit was reached; a smaller or later request may succeed.
    Exhausted,
    /// The time given by the caller, or the ceiling of the class, is over.
    DeadlineExceeded,
    /// The node or a peer cannot serve now; a retry may succeed.
    Unavailable,
    /// The interface names it, this version does not do it.
    Unimplemented,
    /// Stored data failed its integrity check; it is never served (promise 5).
    DataLoss,
    /// A fault of this node. The cause is in the log, not in the answer.
    Internal,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $kind:ident, $ihe:literal;)+) => {
        /// The catalogue of failures: one stable name each, as in `google.rpc.ErrorInfo.reason`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// Every reason, in the order of the catalogue.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable name on the wire, such as `INVALID_OID`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it means to a caller.
            pub const fn kind(self) -> ErrorKind {
                match self { $(Self::$variant => ErrorKind::$kind,)+ }
            }

            /// The IHE ITI error code (TF-3 §4.2.4.1) an IHE door answers with.
            pub const fn ihe_code(self) -> &'static str {
                match self { $(Self::$variant => $ihe,)+ }
            }

            /// One sentence for the catalogue in the documentation.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

reasons! {
    /// A required field is empty.
    MissingField = "MISSING_FIELD", Invalid, "XDSRegistryMetadataError";
    /// A field does not have the form its type asks for.
    InvalidField = "INVALID_FIELD", Invalid, "XDSRegistryMetadataError";
    /// An object identifier is not in dotted-decimal form (at most 64 characters).
    InvalidOid = "INVALID_OID", Invalid, "XDSRegistryMetadataError";
    /// An identifier that looks like, or says it is, a My Number (マイナンバー); it is never taken.
    MyNumberRefused = "MY_NUMBER_REFUSED", Invalid, "XDSRegistryMetadataError";
    /// A document entry came without its SHA-1 hash or its size (`IHE TF-3` §4.2.3.2.10).
    MissingHash = "MISSING_HASH", Invalid, "XDSRepositoryMetadataError";
    /// The bytes received do not have the declared hash.
    HashMismatch = "HASH_MISMATCH", Invalid, "XDSRepositoryMetadataError";
    /// The bytes received do not have the declared size.
    SizeMismatch = "SIZE_MISMATCH", Invalid, "XDSRepositoryMetadataError";
    /// A document entry without its document.
    MissingDocument = "MISSING_DOCUMENT", Invalid, "XDSMissingDocument";
    /// A document without its entry.
    MissingMetadata = "MISSING_METADATA", Invalid, "XDSMissingDocumentMetadata";
    /// A code is not in the value set of this community, which is closed.
    UnknownCode = "UNKNOWN_CODE", Invalid, "XDSRegistryMetadataError";
    /// A uniqueId stands twice in one submission.
    DuplicateInMessage = "DUPLICATE_IN_MESSAGE", Invalid, "XDSRegistryDuplicateUniqueIdInMessage";
    /// The content of a document is not what its metadata says it is.
    InvalidContent = "INVALID_CONTENT", Invalid, "InvalidDocumentContent";
    /// The submission's patient is not its documents' patient.
    PatientMismatch = "PATIENT_MISMATCH", Invalid, "XDSPatientIdDoesNotMatch";
    /// An update does not change an existing object: its logicalID is absent, or its own id (ITI-57).
    InvalidUpdate = "INVALID_UPDATE", Invalid, "XDSInvalidRequestException";
    /// An association that triggers an update is malformed (ITI-57).
    UpdateOperation = "UPDATE_OPERATION", Invalid, "XDSMetadataUpdateOperationError";
    /// An update comes without the association that triggers it, or one forbids what ITI-92 demands.
    UpdateAnnotation = "UPDATE_ANNOTATION", Invalid, "XDSMetadataAnnotationError";
    /// A restricted update changes an attribute that it may not change (ITI-92).
    Unmodifiable = "UNMODIFIABLE", Invalid, "UnmodifiableMetadataError";
    /// A restricted update is of an object of another kind (ITI-92).
    ObjectTypeChanged = "OBJECT_TYPE_CHANGED", Invalid, "XDSObjectTypeError";
    /// A restricted update changes the uniqueId (ITI-92).
    IdentifierChanged = "IDENTIFIER_CHANGED", Invalid, "XDSMetadataIdentifierError";
    /// A page or resume token this node did not give out, or for another query.
    InvalidToken = "INVALID_TOKEN", Invalid, "XDSRegistryError";
    /// No community owns a domain that identifiers are wanted of; each is named (ITI-9 case 5).
    UnknownTargetDomain = "UNKNOWN_TARGET_DOMAIN", Invalid, "XDSRegistryError";
    /// A required parameter of a stored query is absent.
    MissingParameter = "MISSING_PARAMETER", Invalid, "XDSStoredQueryMissingParam";
    /// A parameter of a stored query has several values where one may stand, or excludes another.
    ParameterNumber = "PARAMETER_NUMBER", Invalid, "XDSStoredQueryParamNumber";
    /// A parameter of a stored query does not have its form.
    InvalidParameter = "INVALID_PARAMETER", Invalid, "XDSRegistryError";
    /// No stored query of this registry.
    UnknownQuery = "UNKNOWN_QUERY", Invalid, "XDSUnknownStoredQuery";
    /// The objects named are of several patients; a call is about one.
    ResultNotSinglePatient = "RESULT_NOT_SINGLE_PATIENT", Invalid, "XDSResultNotSinglePatient";
    /// The person's assertion is missing, malformed, expired, or for another audience.
    InvalidAssertion = "INVALID_ASSERTION", Unauthenticated, "XDSRegistryError";
    /// The certificate is valid, but no active participant is registered for it here.
    UnregisteredCertificate = "UNREGISTERED_CERTIFICATE", Unauthenticated, "XDSRegistryError";
    /// No revocation list for the certificate is in time; only emergencies are served until one is.
    RevocationUnknown = "REVOCATION_UNKNOWN", Unauthenticated, "XDSRegistryError";
    /// Not permitted, or nothing the caller may know of; the two are not told apart.
    NotPermitted = "NOT_PERMITTED", Denied, "XDSRegistryError";
    /// The assigning authority or homeCommunityId belongs to another community (INV-4).
    ForeignDomain = "FOREIGN_DOMAIN", Denied, "XDSRegistryError";
    /// What one person proposed, another must decide.
    SecondPersonNeeded = "SECOND_PERSON_NEEDED", Denied, "XDSRegistryError";
    /// No community with this homeCommunityId takes part.
    UnknownCommunity = "UNKNOWN_COMMUNITY", NotFound, "XDSUnknownCommunity";
    /// No community owns this assigning authority.
    UnknownAuthority = "UNKNOWN_AUTHORITY", NotFound, "XDSUnknownPatientId";
    /// The patient identifier is not known here.
    UnknownPatient = "UNKNOWN_PATIENT", NotFound, "XDSUnknownPatientId";
    /// The repositoryUniqueId is not served by the community asked.
    UnknownRepository = "UNKNOWN_REPOSITORY", NotFound, "XDSUnknownRepositoryId";
    /// The document is not here, or not for this caller.
    UnknownDocument = "UNKNOWN_DOCUMENT", NotFound, "XDSDocumentUniqueIdError";
    /// The addressee of a referral is no institution that can be reached.
    UnknownRecipient = "UNKNOWN_RECIPIENT", NotFound, "UnknownRecipient";
    /// What was named (a task, a grant, a consent) is not here, or not for this caller.
    NotFound = "NOT_FOUND", NotFound, "XDSRegistryError";
    /// An id names no object of the submission or the registry.
    UnresolvedReference = "UNRESOLVED_REFERENCE", NotFound, "UnresolvedReferenceException";
    /// The uniqueId of a submission set or folder, or an entryUUID, is registered already.
    DuplicateUniqueId = "DUPLICATE_UNIQUE_ID", Conflict, "XDSDuplicateUniqueIdInRegistry";
    /// The uniqueId of a document is registered already, for bytes with another hash.
    NonIdenticalHash = "NON_IDENTICAL_HASH", Conflict, "XDSNonIdenticalHash";
    /// The uniqueId of a document is registered already, for bytes of another size.
    NonIdenticalSize = "NON_IDENTICAL_SIZE", Conflict, "XDSNonIdenticalSize";
    /// The idempotency key was used before, with another request body.
    IdempotencyMismatch = "IDEMPOTENCY_MISMATCH", Conflict, "XDSRegistryError";
    /// Another change came first; read again and repeat.
    ConcurrentChange = "CONCURRENT_CHANGE", Precondition, "XDSRegistryBusy";
    /// An association is made to an object that is deprecated.
    DeprecatedObject = "DEPRECATED_OBJECT", Precondition, "XDSRegistryDeprecatedDocumentError";
    /// The metadata has other versions than the update says (ITI-57).
    VersionConflict = "VERSION_CONFLICT", Precondition, "XDSMetadataVersionError";
    /// The state of the metadata does not allow the update (ITI-57).
    UpdateRefused = "UPDATE_REFUSED", Precondition, "XDSMetadataUpdateError";
    /// After the update, patient identifiers would not agree (ITI-57).
    PatientReconciliation = "PATIENT_RECONCILIATION", Precondition, "XDSPatientIDReconciliationError";
    /// The object is still referred to by another that is not removed with it (ITI-62).
    ReferencesExist = "REFERENCES_EXIST", Precondition, "ReferencesExistException";
    /// The removal would leave an object that belongs to nothing (ITI-62).
    WouldBeUnreferenced = "WOULD_BE_UNREFERENCED", Precondition, "XDSUnreferencedObjectException";
    /// The state does not allow it: already withdrawn, already merged, already closed.
    WrongState = "WRONG_STATE", Precondition, "XDSRegistryError";
    /// A steward said that the records are of different people; that must be taken back first.
    HeldApart = "HELD_APART", Precondition, "XDSRegistryError";
    /// The capability is not switched on in this node's configuration.
    RoleNotServed = "ROLE_NOT_SERVED", Precondition, "XDSRegistryError";
    /// A message is larger than the limit stated in the text.
    MessageTooLarge = "MESSAGE_TOO_LARGE", Exhausted, "XDSRegistryOutOfResources";
    /// Too much at once: a queue, quota or concurrency limit.
    Overloaded = "OVERLOADED", Exhausted, "XDSRegistryBusy";
    /// More matches than a search may disclose; narrow it.
    TooManyResults = "TOO_MANY_RESULTS", Exhausted, "XDSTooManyResults";
    /// The deadline passed before the answer was ready.
    DeadlineExceeded = "DEADLINE_EXCEEDED", DeadlineExceeded, "XDSRegistryBusy";
    /// The other community cannot be reached or did not answer in time.
    CommunityUnavailable = "COMMUNITY_UNAVAILABLE", Unavailable, "XDSUnavailableCommunity";
    /// The other community's gateway showed a certificate that is not accepted or not registered.
    PeerUntrusted = "PEER_UNTRUSTED", Unavailable, "XDSUnavailableCommunity";
    /// The other community's registered endpoint is not one this node may connect to.
    EndpointForbidden = "ENDPOINT_FORBIDDEN", Unavailable, "XDSUnavailableCommunity";
    /// The node cannot make the record durable, so it neither acknowledges nor discloses.
    StoreUnavailable = "STORE_UNAVAILABLE", Unavailable, "XDSRegistryNotAvailable";
    /// Too few witnesses have cosigned the audit log for too long: nothing is disclosed but in emergencies.
    AuditNotWitnessed = "AUDIT_NOT_WITNESSED", Unavailable, "XDSRegistryNotAvailable";
    /// The node is draining before a stop.
    ShuttingDown = "SHUTTING_DOWN", Unavailable, "XDSRegistryNotAvailable";
    /// The interface has it, this version does not do it yet.
    NotImplemented = "NOT_IMPLEMENTED", Unimplemented, "XDSRegistryError";
    /// Stored bytes failed their integrity check and were not served.
    IntegrityFailure = "INTEGRITY_FAILURE", DataLoss, "XDSRepositoryError";
    /// The audit log does not continue what was signed before; nothing is signed until an operator has looked.
    AuditLogBroken = "AUDIT_LOG_BROKEN", DataLoss, "XDSRegistryError";
    /// A fault of this node; the cause is in its log under the request id.
    Internal = "INTERNAL", Internal, "XDSRegistryError";
}

/// A failure, as services return it.
///
/// `Display` is what a caller may read; `source` is the cause, for the log only.
#[derive(Debug)]
pub struct Error {
    reason: Reason,
    field: Option<Cow<'static, str>>,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    /// What few failures have. In a box, so that a failure, with what authentication adds to it, stays
    /// below the 128 bytes from which on every result would be boxed.
    more: Option<Box<More>>,
    registry: bool,
}

#[derive(Debug, Default)]
struct More {
    /// Further fields that are wrong for the same reason.
    fields: Vec<String>,
    /// What else is wrong.
    others: Vec<Error>,
}

impl Error {
    /// A failure for `reason`, with a message for the caller: lowercase, no full stop, no patient
    /// data.
    pub fn new(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            field: None,
            message: message.into(),
            retry_after: None,
            source: None,
            more: None,
            registry: false,
        }
    }

    /// Everything that was found wrong with one request, as one failure: the first is what it is
    /// answered with, the others go along. `None` if nothing was found.
    pub fn all(found: Vec<Self>) -> Option<Self> {
        let mut found = found.into_iter();
        let first = found.next()?;
        let mut more = first.more.unwrap_or_default();
        more.others = found.collect();
        Some(Self {
            more: Some(more),
            registry: true,
            ..first
        })
    }

    /// A field that is wrong, by its path in the request, such as `entry.patient_id`.
    pub fn field(
        reason: Reason,
        field: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            field: Some(field.into()),
            ..Self::new(reason, message)
        }
    }

    /// Several fields that are wrong for one reason, the first one first.
    pub fn fields(
        reason: Reason,
        fields: Vec<String>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        let mut fields = fields.into_iter();
        Self {
            field: fields.next().map(Into::into),
            more: Some(Box::new(More {
                fields: fields.collect(),
                others: Vec::new(),
            })),
            ..Self::new(reason, message)
        }
    }

    /// A required field that is empty.
    pub fn missing(field: impl Into<Cow<'static, str>>) -> Self {
        Self::field(Reason::MissingField, field, "is required")
    }

    /// A refusal. One text for every cause, so that it reveals nothing (INV-3).
    pub fn not_permitted() -> Self {
        Self::new(
            Reason::NotPermitted,
            "not permitted, or nothing there that may be shown",
        )
    }

    /// A fault of this node: the cause goes to the log, the caller gets a fixed text.
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(Reason::Internal, "internal error").caused_by(source)
    }

    /// Adds the cause, for the log.
    pub fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says when a retry may succeed.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Puts `prefix.` before the field's path: for a part parsed inside a larger message.
    pub fn within(mut self, prefix: &str) -> Self {
        self.field = Some(match self.field {
            Some(field) => format!("{prefix}.{field}").into(),
            None => prefix.to_owned().into(),
        });
        self
    }

    /// Why it failed.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// What it means to a caller.
    pub fn kind(&self) -> ErrorKind {
        self.reason.kind()
    }

    /// The request field that was wrong.
    pub fn wrong_field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// The other request fields that were wrong for the same reason.
    pub fn more_wrong_fields(&self) -> &[String] {
        self.more.as_ref().map_or(&[], |more| &more.fields)
    }

    /// Says that a registry or repository request failed: its IHE errors go along
    /// (`RegistryErrorList`).
    pub fn of_registry(mut self) -> Self {
        self.registry = true;
        self
    }

    /// Whether a registry or repository request failed.
    pub fn is_of_registry(&self) -> bool {
        self.registry
    }

    /// What else was found wrong with the request, in order of its parts.
    pub fn others(&self) -> &[Self] {
        self.more.as_ref().map_or(&[], |more| &more.others)
    }

    /// The text for the caller, without the field.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// When a retry may succeed, if known.
    pub fn retry_hint(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{field}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// When to try again what a full disk refused: space comes back by an operator's hand.
const DISK_FULL_RETRY: Duration = Duration::from_secs(10);

/// The result of a service.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<crate::store::StoreError> for Error {
    fn from(error: crate::store::StoreError) -> Self {
        use crate::store::StoreError as S;
        let reason = match &error {
            S::Conflict => Reason::ConcurrentChange,
            S::KeyDestroyed => Reason::UnknownDocument,
            S::IdempotencyMismatch => Reason::IdempotencyMismatch,
            S::Corrupt { .. } | S::InvalidRow { .. } => Reason::IntegrityFailure,
            S::TooLarge { .. } => Reason::MessageTooLarge,
            S::Io { .. } | S::Poisoned | S::Closed | S::Rebuilding | S::Locked | S::Purging => {
                Reason::StoreUnavailable
            }
            _ => Reason::Internal,
        };
        let message = match reason {
            Reason::UnknownDocument => "the document was erased",
            Reason::ConcurrentChange => "another change came first; read again and repeat",
            Reason::IdempotencyMismatch => "the idempotency key was used with another request",
            Reason::IntegrityFailure => "stored data failed its integrity check; not served",
            Reason::MessageTooLarge => "the change is larger than the store takes",
            Reason::StoreUnavailable => "the store cannot make this durable now",
            _ => "internal error",
        };
        let full = error.is_disk_full();
        let failed = Self::new(reason, message).caused_by(error);
        match full {
            true => failed.retry_after(DISK_FULL_RETRY),
            false => failed,
        }
    }
}
