//! Who was suspended at this node itself, under a parent whose directory it follows: a new version of the
//! parent's lets nobody in again whom this node has put out.

use crate::error::{Error, Reason, Result};
use crate::store::{KeyBuilder, Row, TableId, Write};
use crate::wire::pb::directory as pb;

use super::service::Directory;
use super::snapshot::identified;

/// Suspensions made here, more than a node has; the rest is not looked at.
const MOST: usize = 10_000;

/// An institution, or one certificate of it, that this node suspended.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SuspendedRow {
    /// The institution.
    #[prost(string, tag = "1")]
    pub(super) institution_id: String,
    /// The certificate, if it is one alone.
    #[prost(message, optional, tag = "2")]
    pub(super) certificate: Option<pb::CertificatePin>,
    /// The parent has suspended it too: then it stays out when it is let in here.
    #[prost(bool, tag = "3")]
    pub(super) above: bool,
}

impl Row for SuspendedRow {
    const TABLE: TableId = TableId(50);
    const NAME: &'static str = "suspended-here";

    fn key(&self) -> Vec<u8> {
        let named = self.certificate.as_ref().map(|one| {
            let number = format!("{} {}", one.serial_number, one.issuer);
            format!("{} {number}", one.spki_sha256)
        });
        KeyBuilder::new()
            .fixed(self.institution_id.as_bytes())
            .text(&named.unwrap_or_default())
            .build()
    }
}

impl SuspendedRow {
    fn is_of(&self, request: &pb::SuspendInstitutionRequest) -> bool {
        let named = |one: &pb::CertificatePin| identified(one).ok();
        self.institution_id == request.institution_id
            && match (&self.certificate, &request.certificate) {
                (None, None) => true,
                (Some(one), Some(other)) => named(one).is_some() && named(one) == named(other),
                (Some(_), None) | (None, Some(_)) => false,
            }
    }

    /// The request that suspends so.
    fn request(&self) -> pb::SuspendInstitutionRequest {
        pb::SuspendInstitutionRequest {
            institution_id: self.institution_id.clone(),
            certificate: self.certificate.clone(),
            ..pb::SuspendInstitutionRequest::default()
        }
    }
}

/// Puts the status asked for on the institution, or on the certificate of it that is named.
pub(super) fn set_status(
    institution: &mut pb::Institution,
    request: &pb::SuspendInstitutionRequest,
) -> Result<()> {
    if institution.status() == pb::MemberStatus::Retired {
        let message = "the institution has left the network";
        return Err(Error::field(Reason::WrongState, "institution_id", message));
    }
    let status = match request.reinstate {
        true => pb::MemberStatus::Active,
        false => pb::MemberStatus::Suspended,
    };
    let Some(named) = &request.certificate else {
        institution.status = status.into();
        return Ok(());
    };
    let wanted = identified(named)?;
    let mut found = false;
    for certificate in &mut institution.certificates {
        if identified(certificate)? == wanted {
            certificate.status = status.into();
            found = true;
        }
    }
    if found {
        return Ok(());
    }
    let message = "no such certificate is registered for the institution";
    Err(Error::field(Reason::NotFound, "certificate", message))
}

/// Whether what the request names is suspended.
fn is_suspended(institution: &pb::Institution, request: &pb::SuspendInstitutionRequest) -> bool {
    let Some(named) = &request.certificate else {
        return institution.status() == pb::MemberStatus::Suspended;
    };
    let wanted = identified(named).ok();
    institution.certificates.iter().any(|one| {
        one.status() == pb::MemberStatus::Suspended
            && wanted.is_some()
            && identified(one).ok() == wanted
    })
}

impl Directory {
    fn suspended_here(&self) -> Result<Vec<SuspendedRow>> {
        let rows = self.store.range::<SuspendedRow>(&[], None, MOST)?;
        Ok(rows.into_iter().map(|(_, row)| row.row).collect())
    }

    /// Puts the status asked for on the institution; gives the rows that remember it. At a node under a
    /// parent it is let in here only after it was put out here, and stays out if the parent wants it so.
    ///
    /// # Errors
    /// [`Reason::WrongState`]; [`Reason::NotFound`]; the store.
    pub(super) fn suspended(
        &self,
        institution: &mut pb::Institution,
        request: &pb::SuspendInstitutionRequest,
    ) -> Result<Vec<Write>> {
        if !self.has_parent() {
            set_status(institution, request)?;
            return Ok(Vec::new());
        }
        let rows = self.suspended_here()?;
        let rows: Vec<_> = rows.iter().filter(|row| row.is_of(request)).collect();
        let out = is_suspended(institution, request);
        if !request.reinstate {
            set_status(institution, request)?;
            let row = SuspendedRow {
                institution_id: request.institution_id.clone(),
                certificate: request.certificate.clone(),
                above: out && rows.iter().all(|row| row.above),
            };
            let gone = rows.iter().map(|row| delete(row));
            return Ok(gone.chain([Write::put(&row)]).collect());
        }
        if out && rows.is_empty() {
            let message = "was suspended by the parent, where it is let in again";
            return Err(Error::field(Reason::WrongState, "institution_id", message));
        }
        let stays = rows.iter().any(|row| row.above);
        if !stays {
            set_status(institution, request)?;
        }
        Ok(rows.into_iter().map(delete).collect())
    }

    /// Puts out of the parent's new directory whom this node suspended; gives the rows that remember
    /// whether the parent wants it too.
    ///
    /// # Errors
    /// The store.
    pub(super) fn suspend_again(&self, theirs: &mut pb::Directory) -> Result<Vec<Write>> {
        let mut writes = Vec::new();
        for row in self.suspended_here()? {
            let mut all = theirs.institutions.iter_mut();
            let Some(institution) = all.find(|one| one.institution_id == row.institution_id) else {
                continue;
            };
            let request = row.request();
            let above = is_suspended(institution, &request);
            // Retired, or of a certificate that is not registered any more: out all the same.
            if set_status(institution, &request).is_ok() && above != row.above {
                writes.push(Write::put(&SuspendedRow { above, ..row }));
            }
        }
        Ok(writes)
    }
}

fn delete(row: &SuspendedRow) -> Write {
    Write::delete::<SuspendedRow>(row.key())
}
