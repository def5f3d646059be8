//! Whether the bytes that arrived are the bytes that were sent.
//!
//! s3s-fs compares after the new content has replaced the old; here it is compared before.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{Checksum, ChecksumAlgorithm, PutObjectInput};
use s3s::{S3Result, TrailingHeaders, s3_error};

/// The digests that a writer announced, and what the bytes so far give.
pub(super) struct Integrity {
    announced: Checksum,
    md5: Option<(String, Md5)>,
    hasher: ChecksumHasher,
    trailers: Option<TrailingHeaders>,
}

impl Integrity {
    /// Takes note of what the request announces in its headers, and of where its trailers will be.
    pub(super) fn announced(input: &PutObjectInput, trailers: Option<TrailingHeaders>) -> Self {
        let announced = Checksum {
            checksum_crc32: input.checksum_crc32.clone(),
            checksum_crc32c: input.checksum_crc32c.clone(),
            checksum_crc64nvme: input.checksum_crc64nvme.clone(),
            checksum_sha1: input.checksum_sha1.clone(),
            checksum_sha256: input.checksum_sha256.clone(),
            ..Checksum::default()
        };
        let by_trailer = |algorithm: &'static str| {
            let named = input.checksum_algorithm.as_ref();
            named.is_some_and(|named| named.as_str() == algorithm)
        };
        let mut hasher = ChecksumHasher::default();
        if announced.checksum_crc32.is_some() || by_trailer(ChecksumAlgorithm::CRC32) {
            hasher.crc32 = Some(Default::default());
        }
        if announced.checksum_crc32c.is_some() || by_trailer(ChecksumAlgorithm::CRC32C) {
            hasher.crc32c = Some(Default::default());
        }
        if announced.checksum_crc64nvme.is_some() || by_trailer(ChecksumAlgorithm::CRC64NVME) {
            hasher.crc64nvme = Some(Default::default());
        }
        if announced.checksum_sha1.is_some() || by_trailer(ChecksumAlgorithm::SHA1) {
            hasher.sha1 = Some(Default::default());
        }
        if announced.checksum_sha256.is_some() || by_trailer(ChecksumAlgorithm::SHA256) {
            hasher.sha256 = Some(Default::default());
        }
        let md5 = input.content_md5.clone().map(|md5| (md5, Md5::new()));
        Self {
            announced,
            md5,
            hasher,
            trailers,
        }
    }

    /// Takes a part of the content.
    pub(super) fn update(&mut self, part: &[u8]) {
        self.hasher.update(part);
        if let Some((_, md5)) = &mut self.md5 {
            md5.update(part);
        }
    }

    /// Compares, once the content is complete.
    pub(super) fn check(self) -> S3Result<()> {
        if let Some((announced, md5)) = self.md5
            && announced != BASE64_STANDARD.encode(md5.finalize())
        {
            return Err(s3_error!(
                BadDigest,
                "the content does not match Content-MD5"
            ));
        }
        let found = self.hasher.finalize();
        let in_trailer = |name: &str| {
            let headers = self.trailers.as_ref()?;
            headers.read(|headers| headers.get(name)?.to_str().ok().map(str::to_owned))?
        };
        let announced = self.announced;
        for (name, announced, found) in [
            ("crc32", announced.checksum_crc32, found.checksum_crc32),
            ("crc32c", announced.checksum_crc32c, found.checksum_crc32c),
            (
                "crc64nvme",
                announced.checksum_crc64nvme,
                found.checksum_crc64nvme,
            ),
            ("sha1", announced.checksum_sha1, found.checksum_sha1),
            ("sha256", announced.checksum_sha256, found.checksum_sha256),
        ] {
            let announced = announced.or_else(|| in_trailer(&format!("x-amz-checksum-{name}")));
            if let (Some(announced), Some(found)) = (announced, found)
                && announced != found
            {
                return Err(s3_error!(
                    BadDigest,
                    "the content's {name} is {found}, not {announced}"
                ));
            }
        }
        Ok(())
    }
}
