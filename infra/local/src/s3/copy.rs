//! What a copy writes.

use s3s::dto::{CopyObjectInput, GetObjectOutput, MetadataDirective, PutObjectInput};

/// The write that a copy comes to: the source's content, with the source's metadata or those of the request.
pub(super) fn target(copy: CopyObjectInput, source: GetObjectOutput) -> PutObjectInput {
    let target = if copy
        .metadata_directive
        .as_ref()
        .is_some_and(|directive| directive.as_str() == MetadataDirective::REPLACE)
    {
        PutObjectInput {
            metadata: copy.metadata,
            content_type: copy.content_type,
            content_encoding: copy.content_encoding,
            content_disposition: copy.content_disposition,
            content_language: copy.content_language,
            cache_control: copy.cache_control,
            expires: copy.expires,
            ..Default::default()
        }
    } else {
        PutObjectInput {
            metadata: source.metadata,
            content_type: source.content_type,
            content_encoding: source.content_encoding,
            content_disposition: source.content_disposition,
            content_language: source.content_language,
            cache_control: source.cache_control,
            expires: source.expires,
            ..Default::default()
        }
    };
    PutObjectInput {
        bucket: copy.bucket,
        key: copy.key,
        body: source.body,
        content_length: source.content_length,
        ..target
    }
}
