//! The embedded S3 server keeps S3's promises.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use glioseg_local::s3::{EmbeddedS3, EventName, Notify, ObjectCreated, S3Config};
use glioseg_shared::cloud::{Condition, Metadata, S3Storage, Storage};
use glioseg_test_support::keeps_every_promise;
use glioseg_test_support::storage_contract::key;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const BUCKET: &str = "uploads";

#[derive(Default)]
struct Announced(Mutex<Vec<ObjectCreated>>);

impl Notify for Announced {
    fn created(&self, object: ObjectCreated) -> io::Result<()> {
        self.0.lock().unwrap().push(object);
        Ok(())
    }
}

impl Announced {
    fn all(&self) -> Vec<ObjectCreated> {
        self.0.lock().unwrap().clone()
    }
}

async fn start(folder: &Path) -> (EmbeddedS3, Arc<Announced>) {
    let announced = Arc::new(Announced::default());
    let config = S3Config {
        folder: folder.to_owned(),
        port: 0,
        buckets: vec![BUCKET.to_owned()],
        notify: Arc::clone(&announced) as Arc<dyn Notify>,
    };
    (EmbeddedS3::start(config).await.unwrap(), announced)
}

async fn put(client: &Client, key: &str, bytes: &[u8]) -> String {
    let put = client
        .put_object()
        .bucket(BUCKET)
        .key(key)
        .body(ByteStream::from(bytes.to_vec()));
    put.send().await.unwrap().e_tag.unwrap()
}

async fn get(client: &Client, key: &str) -> Vec<u8> {
    let read = client
        .get_object()
        .bucket(BUCKET)
        .key(key)
        .send()
        .await
        .unwrap();
    read.body.collect().await.unwrap().into_bytes().into()
}

fn status<E>(error: &SdkError<E, aws_sdk_s3::config::http::HttpResponse>) -> u16 {
    error.raw_response().unwrap().status().as_u16()
}

keeps_every_promise!(as_a_store, async {
    let folder = tempfile::tempdir().unwrap();
    let (server, _) = start(folder.path()).await;
    let storage = S3Storage::new(server.client(), BUCKET, None);
    (storage, (server, folder))
});

#[tokio::test(flavor = "multi_thread")]
async fn of_those_who_create_an_object_only_the_winner_is_announced() {
    let folder = tempfile::tempdir().unwrap();
    let (server, announced) = start(folder.path()).await;
    let storage = S3Storage::new(server.client(), BUCKET, None);
    let (name, none) = (key("a/k"), Metadata::new());
    let create = |writer: u8| storage.put(&name, vec![writer; 20_000], Condition::IfAbsent, &none);
    let created = futures_util::future::join_all((0..8).map(create)).await;
    assert_eq!(created.iter().filter(|written| written.is_ok()).count(), 1);
    assert_eq!(announced.all().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_content_state_and_metadata_of_one_write() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _) = start(folder.path()).await;
    let storage = S3Storage::new(server.client(), BUCKET, None);
    let write = async |storage: &S3Storage, number: u8| {
        let metadata = Metadata::from([("number".to_owned(), number.to_string())]);
        let bytes = vec![number; 50_000];
        storage
            .put(&key("k"), bytes, Condition::Always, &metadata)
            .await
            .unwrap()
    };
    write(&storage, 0).await;
    let writer = {
        let storage = storage.clone();
        tokio::spawn(async move {
            for number in 1..=60 {
                write(&storage, number).await;
            }
        })
    };
    while !writer.is_finished() {
        let seen = storage.get(&key("k"), 1 << 20).await.unwrap();
        let number = seen.bytes[0];
        assert_eq!(seen.bytes, vec![number; 50_000]);
        assert_eq!(seen.metadata["number"], number.to_string());
    }
    writer.await.unwrap();
}

#[tokio::test]
async fn a_known_state_is_not_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _) = start(folder.path()).await;
    let client = server.client();
    let etag = put(&client, "k", b"one").await;
    let read = || client.get_object().bucket(BUCKET).key("k");
    let error = read().if_none_match(&etag).send().await.unwrap_err();
    assert_eq!(status(&error), 304);
    let head = client.head_object().bucket(BUCKET).key("k");
    let error = head.if_none_match(&etag).send().await.unwrap_err();
    assert_eq!(status(&error), 304);
    put(&client, "k", b"two").await;
    let changed = read().if_none_match(&etag).send().await.unwrap();
    assert_eq!(changed.body.collect().await.unwrap().to_vec(), b"two");
    let error = read().if_match(etag).send().await.unwrap_err();
    assert_eq!(status(&error), 412);
}

#[tokio::test]
async fn every_write_is_announced_in_its_order_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let mut last = String::new();
    for _ in 0..2 {
        let (server, announced) = start(folder.path()).await;
        let client = server.client();
        let name = "study 1/ü+%.tif";
        let etag = put(&client, name, b"12345").await;
        let source = "uploads/study%201/%C3%BC%2B%25.tif";
        client
            .copy_object()
            .bucket(BUCKET)
            .key("copy")
            .copy_source(source)
            .send()
            .await
            .unwrap();
        multipart(&client, "copy", b"parts").await;
        let events = announced.all();
        let told: Vec<_> = events
            .iter()
            .map(|e| (e.event, e.key.as_str(), e.size))
            .collect();
        assert_eq!(
            told,
            [
                (EventName::Put, name, 5),
                (EventName::Copy, "copy", 5),
                (EventName::CompleteMultipartUpload, "copy", 5)
            ]
        );
        assert_eq!(format!("\"{}\"", events[0].etag), etag);
        for event in &events {
            assert_eq!(event.bucket, BUCKET);
            assert!(event.sequencer > last, "{event:?} after {last}");
            assert_eq!(event.sequencer.len(), 16);
            last.clone_from(&event.sequencer);
        }
        // The checksum of the copy that it replaced would make the client refuse it.
        assert_eq!(get(&client, "copy").await, b"parts");
        server.stop().await;
    }
}

async fn multipart(client: &Client, key: &str, bytes: &[u8]) {
    let upload = client
        .create_multipart_upload()
        .bucket(BUCKET)
        .key(key)
        .send()
        .await
        .unwrap();
    let id = upload.upload_id.unwrap();
    let part = client
        .upload_part()
        .bucket(BUCKET)
        .key(key)
        .upload_id(&id)
        .part_number(1);
    let part = part
        .body(ByteStream::from(bytes.to_vec()))
        .send()
        .await
        .unwrap();
    let part = CompletedPart::builder()
        .part_number(1)
        .e_tag(part.e_tag.unwrap())
        .build();
    let parts = CompletedMultipartUpload::builder().parts(part).build();
    let complete = client
        .complete_multipart_upload()
        .bucket(BUCKET)
        .key(key)
        .upload_id(id);
    complete.multipart_upload(parts).send().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_stored_is_the_clients_error_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (server, announced) = start(folder.path()).await;
    let client = server.client();
    put(&client, "a/b", b"old").await;
    for name in [
        "a/../../models/x",
        "a//b",
        "a/",
        "a",
        "a/b/c",
        &"k".repeat(300),
        "a\u{1}",
    ] {
        let put = client
            .put_object()
            .bucket(BUCKET)
            .key(name)
            .body(ByteStream::from_static(b"x"));
        let error = put.send().await.unwrap_err();
        assert_eq!(status(&error), 400, "{name:?}: {error:?}");
    }
    let put = client
        .put_object()
        .bucket(BUCKET)
        .key("a/b")
        .body(ByteStream::from_static(b"new"));
    // The digest of other bytes.
    let error = put
        .content_md5("rL0Y20zC+Fzt72VPzMSk2A==")
        .send()
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some("BadDigest"));
    let put = client
        .put_object()
        .bucket("other")
        .key("k")
        .body(ByteStream::from_static(b"x"));
    assert_eq!(put.send().await.unwrap_err().code(), Some("NoSuchBucket"));
    for name in ["a", "a/"] {
        let read = client.get_object().bucket(BUCKET).key(name).send().await;
        assert!(
            matches!(status(&read.unwrap_err()), 400 | 404),
            "a folder is no object"
        );
    }
    assert_eq!(get(&client, "a/b").await, b"old");
    assert_eq!(announced.all().len(), 1);
}

#[tokio::test]
async fn a_slow_sender_holds_nobody_up_and_one_that_goes_away_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (server, announced) = start(folder.path()).await;
    let client = server.client();
    put(&client, "k", b"old").await;
    let mut slow = half_sent(&server, "k").await;
    // Reads and other writes go on.
    assert_eq!(get(&client, "k").await, b"old");
    put(&client, "k", b"meanwhile").await;
    slow.write_all(b"56789").await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(get(&client, "k").await, b"0123456789");

    drop(half_sent(&server, "k").await);
    assert_eq!(get(&client, "k").await, b"0123456789");
    assert_eq!(announced.all().len(), 3);
    server.stop().await;
    assert_eq!(announced.all().len(), 3);
}

/// A connection on which half of an upload was sent, by a presigned link.
async fn half_sent(server: &EmbeddedS3, key: &str) -> TcpStream {
    let client = server.client();
    let link = client
        .put_object()
        .bucket(BUCKET)
        .key(key)
        .presigned(PresigningConfig::expires_in(Duration::from_secs(60)).unwrap())
        .await
        .unwrap();
    let host = server.address().to_string();
    let path = link.uri().strip_prefix(&format!("http://{host}")).unwrap();
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let mut head = format!(
        "PUT {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 10\r\nconnection: close\r\n"
    );
    for (name, value) in link.headers() {
        if !["host", "content-length"].contains(&name) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    stream
        .write_all(format!("{head}\r\n01234").as_bytes())
        .await
        .unwrap();
    stream
}

#[tokio::test]
async fn what_is_deleted_is_gone_with_all_that_was_noted_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _) = start(folder.path()).await;
    let storage = S3Storage::new(server.client(), BUCKET, None);
    let metadata = Metadata::from([("of".to_owned(), "old".to_owned())]);
    storage
        .put(&key("a/k"), vec![1], Condition::Always, &metadata)
        .await
        .unwrap();
    storage.delete(&key("a/k")).await.unwrap();
    storage.delete(&key("a/k")).await.unwrap();
    assert!(storage.head(&key("a/k")).await.unwrap_err().is_not_found());
    let left = std::fs::read_dir(folder.path().join("buckets")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [BUCKET]);
}
