//! The operations of the server: s3s-fs's, with S3's promises kept.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use hyper::HeaderMap;
use s3s::dto::*;
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;

use super::commit::{Content, Turn, with_turn};
use super::conditions::{WriteCondition, check_read};
use super::copy::target;
use super::integrity::Integrity;
use super::listing;
use super::locks::Locks;
use super::notification::{EventName, Notify, ObjectCreated};
use super::places::Places;
use super::sequencer::Sequencer;

/// A folder of buckets that behaves as S3 does.
#[derive(Clone)]
pub(super) struct Store(Arc<Inner>);

struct Inner {
    files: FileSystem,
    places: Places,
    locks: Locks,
    sequencer: Sequencer,
    notify: Arc<dyn Notify>,
}

impl Store {
    /// Opens the folder, whose buckets are its folders.
    pub(super) fn open(
        root: &Path,
        sequencer: Sequencer,
        notify: Arc<dyn Notify>,
    ) -> io::Result<Self> {
        let files = FileSystem::new(root)
            .map_err(|error| io::Error::other(S3Error::from(error).to_string()))?;
        Ok(Self(Arc::new(Inner {
            files,
            places: Places::new(root.to_owned()),
            locks: Locks::new(),
            sequencer,
            notify,
        })))
    }
}

impl Inner {
    /// The present state of an object.
    async fn etag(&self, bucket: &str, key: &str) -> S3Result<Option<ETag>> {
        Ok(self.head(bucket, key).await?.and_then(|head| head.e_tag))
    }

    async fn head(&self, bucket: &str, key: &str) -> S3Result<Option<HeadObjectOutput>> {
        if !self.places.object(bucket, key)?.is_file() {
            return Ok(None);
        }
        let input = HeadObjectInput {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            ..Default::default()
        };
        Ok(Some(self.files.head_object(request(input)).await?.output))
    }

    /// Announces an object. The caller holds the key's lock, so that sequencers follow the order of the writes.
    fn announce(
        &self,
        event: EventName,
        bucket: &str,
        key: &str,
        size: u64,
        etag: &str,
    ) -> S3Result<()> {
        let sequencer = self.sequencer.next().map_err(S3Error::internal_error)?;
        let object = ObjectCreated {
            event,
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            size,
            etag: etag.to_owned(),
            sequencer,
            time: now(),
        };
        self.notify.created(object).map_err(S3Error::internal_error)
    }

    async fn write(
        self: Arc<Self>,
        event: EventName,
        mut request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
        self.places.writable(&bucket, &key)?;
        let input = &mut request.input;
        let condition = WriteCondition::take(&mut input.if_match, &mut input.if_none_match)?;
        let body = input.body.take().ok_or_else(|| s3_error!(IncompleteBody))?;
        let integrity = Integrity::announced(input, request.trailing_headers.clone());
        // Announced before it happens: a write that nobody was told of would be lost where the writer finds, when it
        // tries again, that its bytes are there. Whoever is told reads after the lock. A write that fails after all has
        // been announced in vain, which an event that comes twice would have been as well.
        let inner = Arc::clone(&self);
        let turn = move |content: Content| async move {
            let guard = inner.locks.write(&bucket, &key).await;
            if !condition.is_empty() {
                condition.check(inner.etag(&bucket, &key).await?.as_ref())?;
            }
            inner.announce(event, &bucket, &key, content.size, &content.md5)?;
            Ok(guard)
        };
        let (body, outcome) = with_turn(body, integrity, turn);
        request.input.body = Some(body);
        let written = self.files.put_object(request).await;
        match outcome.take() {
            Turn::NotReached => written,
            Turn::Refused(refusal) => Err(refusal),
            Turn::Granted(guard) => {
                drop(guard);
                written
            }
        }
    }

    async fn complete(
        self: Arc<Self>,
        mut request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
        self.places.writable(&bucket, &key)?;
        let input = &mut request.input;
        let condition = WriteCondition::take(&mut input.if_match, &mut input.if_none_match)?;
        let _turn = self.locks.write(&bucket, &key).await;
        if !condition.is_empty() {
            condition.check(self.etag(&bucket, &key).await?.as_ref())?;
        }
        self.places
            .forget_checksums(&bucket, &key)
            .map_err(S3Error::internal_error)?;
        let written = self.files.complete_multipart_upload(request).await?;
        let head = self.head(&bucket, &key).await?.unwrap_or_default();
        let size = head
            .content_length
            .and_then(|size| u64::try_from(size).ok());
        let etag = head
            .e_tag
            .ok_or_else(|| s3_error!(InternalError, "no ETag"))?;
        // Only now is it known what was written. No function writes in parts: it is a user who is told to try again.
        let event = EventName::CompleteMultipartUpload;
        self.announce(event, &bucket, &key, size.unwrap_or(0), etag.value())?;
        Ok(written)
    }

    async fn delete(&self, bucket: &str, key: &str) -> S3Result<()> {
        let path = self.places.object(bucket, key)?;
        let _turn = self.locks.write(bucket, key).await;
        if path.is_file() {
            std::fs::remove_file(path).map_err(S3Error::internal_error)?;
        }
        self.places
            .forget(bucket, key)
            .map_err(S3Error::internal_error)
    }

    async fn read(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = &request.input;
        let (matching, changed) = (input.if_match.clone(), input.if_none_match.clone());
        // s3s-fs opens the file before it answers, so what is read after the lock is still this content.
        let _unchanging = self.locks.read(&input.bucket, &input.key).await;
        self.places.existing(&input.bucket, &input.key)?;
        let read = self.files.get_object(request).await?;
        check_read(
            read.output.e_tag.as_ref(),
            matching.as_ref(),
            changed.as_ref(),
        )?;
        Ok(read)
    }
}

#[async_trait]
impl S3 for Store {
    async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        finish(Arc::clone(&self.0).write(EventName::Put, request)).await
    }

    async fn copy_object(
        &self,
        request: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        let copy = request.input;
        let CopySource::Bucket {
            bucket,
            key,
            version_id: None,
        } = &copy.copy_source
        else {
            return Err(s3_error!(
                NotImplemented,
                "a copy's source is a bucket and a key"
            ));
        };
        if copy.copy_source_if_modified_since.is_some()
            || copy.copy_source_if_unmodified_since.is_some()
        {
            return Err(s3_error!(NotImplemented, "a copy by date"));
        }
        let source = GetObjectInput {
            bucket: bucket.to_string(),
            key: key.to_string(),
            if_match: copy.copy_source_if_match.clone(),
            if_none_match: copy.copy_source_if_none_match.clone(),
            ..Default::default()
        };
        let source = match self.0.read(self::request(source)).await {
            // Of a copy's source this, too, is a failed precondition.
            Err(error) if *error.code() == S3ErrorCode::NotModified => {
                Err(s3_error!(PreconditionFailed))
            }
            other => other,
        }?
        .output;
        let target = target(copy, source);
        let written =
            finish(Arc::clone(&self.0).write(EventName::Copy, self::request(target))).await?;
        Ok(written.map_output(|written| CopyObjectOutput {
            copy_object_result: Some(CopyObjectResult {
                e_tag: written.e_tag,
                last_modified: Some(Timestamp::from(SystemTime::now())),
                ..Default::default()
            }),
            ..Default::default()
        }))
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        self.0.read(request).await
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = &request.input;
        let (matching, changed) = (input.if_match.clone(), input.if_none_match.clone());
        let _unchanging = self.0.locks.read(&input.bucket, &input.key).await;
        self.0.places.existing(&input.bucket, &input.key)?;
        let read = self.0.files.head_object(request).await?;
        check_read(
            read.output.e_tag.as_ref(),
            matching.as_ref(),
            changed.as_ref(),
        )?;
        Ok(read)
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.0
            .delete(&request.input.bucket, &request.input.key)
            .await?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let input = request.input;
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for object in input.delete.objects {
            match self.0.delete(&input.bucket, &object.key).await {
                Ok(()) => deleted.push(DeletedObject {
                    key: Some(object.key),
                    ..Default::default()
                }),
                Err(error) => errors.push(Error {
                    key: Some(object.key),
                    code: Some(error.code().as_str().to_owned()),
                    message: error.message().map(str::to_owned),
                    ..Default::default()
                }),
            }
        }
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: Some(deleted),
            errors: Some(errors).filter(|errors| !errors.is_empty()),
            ..Default::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let folder = self.0.places.bucket(&request.input.bucket)?;
        // What was announced is listed.
        self.0.locks.settled().await;
        let listed =
            tokio::task::spawn_blocking(move || listing::list(&folder, request.input)).await;
        let listed = listed.map_err(S3Error::internal_error)?;
        Ok(S3Response::new(listed.map_err(S3Error::internal_error)?))
    }

    async fn list_objects(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let marker = request.input.marker.clone();
        let listed = self.list_objects_v2(request.map_input(Into::into)).await?;
        Ok(listed.map_output(|listed| ListObjectsOutput {
            contents: listed.contents,
            common_prefixes: listed.common_prefixes,
            delimiter: listed.delimiter,
            encoding_type: listed.encoding_type,
            name: listed.name,
            prefix: listed.prefix,
            max_keys: listed.max_keys,
            is_truncated: listed.is_truncated,
            marker,
            next_marker: listed.next_continuation_token,
            ..Default::default()
        }))
    }

    async fn list_buckets(
        &self,
        request: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        self.0.files.list_buckets(request).await
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.0.files.head_bucket(request).await
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.0.files.get_bucket_location(request).await
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.0
            .places
            .writable(&request.input.bucket, &request.input.key)?;
        self.0.files.create_multipart_upload(request).await
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        self.0.files.upload_part(request).await
    }

    async fn list_parts(
        &self,
        request: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        self.0.files.list_parts(request).await
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        finish(Arc::clone(&self.0).complete(request)).await
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.0.files.abort_multipart_upload(request).await
    }
}

/// Runs a write to its end even if the client goes away: between its steps the object would be half of each write.
async fn finish<T: Send + 'static>(
    write: impl Future<Output = S3Result<T>> + Send + 'static,
) -> S3Result<T> {
    tokio::spawn(write).await.map_err(S3Error::internal_error)?
}

/// A request of the server to itself.
fn request<T>(input: T) -> S3Request<T> {
    S3Request {
        input,
        method: hyper::Method::default(),
        uri: hyper::Uri::default(),
        headers: HeaderMap::new(),
        extensions: Default::default(),
        credentials: None,
        region: None,
        service: None,
        trailing_headers: None,
    }
}

/// The time as S3 writes it.
fn now() -> String {
    let mut text = Vec::new();
    // Writing to memory fails only for years that no clock shows.
    match Timestamp::from(SystemTime::now()).format(TimestampFormat::DateTime, &mut text) {
        Ok(()) => String::from_utf8_lossy(&text).into_owned(),
        Err(_) => String::new(),
    }
}
