//! What every store promises, asked of a folder and of a real S3 server alike.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/s3_server.rs"]
mod s3_server;

use std::net::SocketAddr;
use std::time::Duration;

use glioseg_shared::cloud::{
    Condition, FolderStorage, Metadata, Presign, SignedRequest, Storage, StorageError, UploadTerms,
};
use glioseg_shared::digest::sha256_hex;
use glioseg_test_support::keeps_every_promise;
use glioseg_test_support::storage_contract::{MAX, key, text, write};
use s3_server::S3Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

keeps_every_promise!(in_a_folder, async {
    let root = tempfile::tempdir().unwrap();
    (FolderStorage::open(root.path()).unwrap(), root)
});

keeps_every_promise!(in_a_bucket, async {
    let server = S3Server::start().await;
    (server.storage(None), server)
});

keeps_every_promise!(below_a_prefix, async {
    let server = S3Server::start().await;
    let beside = server.storage(None);
    for name in ["a/1", "team/gli", "team/glioma/x", "z"] {
        write(&beside, name, "not below the prefix").await;
    }
    (server.storage(Some("team/gliomas")), server)
});

#[tokio::test]
async fn a_prefix_is_put_before_every_key() {
    let server = S3Server::start().await;
    write(&server.storage(Some("team/gliomas")), "a/b", "text").await;
    assert_eq!(
        text(&server.storage(None), "team/gliomas/a/b").await,
        "text"
    );
}

#[tokio::test]
async fn a_missing_bucket_is_no_missing_object() {
    let server = S3Server::start().await;
    let storage = s3_server::storage(server.address, "no-such-bucket", None);
    let error = storage.list("", None, 10).await.unwrap_err();
    assert!(!error.is_not_found() && !error.is_retryable(), "{error:?}");
    assert!(error.to_string().contains("NoSuchBucket"), "{error}");
}

#[tokio::test]
async fn a_denied_read_is_an_absent_object_to_those_who_may_not_list() {
    let server = S3Server::start().await;
    let denied = |error: &StorageError| matches!(error, StorageError::Denied { .. });
    let storage = server.denied();
    assert!(denied(&storage.get(&key("k"), MAX).await.unwrap_err()));
    assert!(denied(&storage.head(&key("k")).await.unwrap_err()));

    let storage = storage.without_listing();
    assert!(
        storage
            .get(&key("k"), MAX)
            .await
            .unwrap_err()
            .is_not_found()
    );
    assert!(storage.head(&key("k")).await.unwrap_err().is_not_found());
    let written = storage
        .put(&key("k"), Vec::new(), Condition::IfAbsent, &Metadata::new())
        .await;
    assert!(denied(&written.unwrap_err()), "writes are told apart");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_worth_a_retry() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let storage = s3_server::storage(address, "bucket", None);
    let error = storage.get(&key("k"), MAX).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(!error.is_precondition_failed());
}

#[tokio::test]
async fn a_folders_tag_is_the_digest_of_the_content() {
    let root = tempfile::tempdir().unwrap();
    let storage = FolderStorage::open(root.path().join("made/when/missing")).unwrap();
    write(&storage, "a/b.txt", "content").await;
    let head = storage.head(&key("a/b.txt")).await.unwrap();
    assert_eq!(head.etag.as_str(), sha256_hex(b"content"));
    let file = root.path().join("made/when/missing/a/b.txt");
    assert_eq!(std::fs::read(file).unwrap(), b"content");
}

#[tokio::test]
async fn the_folders_own_files_are_no_objects() {
    let root = tempfile::tempdir().unwrap();
    let storage = FolderStorage::open(root.path()).unwrap();
    write(&storage, "a/k", "k").await;
    // What a writer leaves that was killed before it moved its file into place.
    std::fs::write(root.path().join("a/.glioseg-1-0.tmp"), "half").unwrap();
    let page = storage.list("", None, 10).await.unwrap();
    assert_eq!(page.entries.len(), 1, "{page:?}");
    for name in [".glioseg/lock", "a/.glioseg-1-0.tmp", ".glioseg"] {
        let error = storage.get(&key(name), MAX).await.unwrap_err();
        assert!(
            matches!(error, StorageError::InvalidKey { .. }),
            "{name}: {error}"
        );
    }
}

#[tokio::test]
async fn what_no_key_can_name_is_counted_on_one_page() {
    let root = tempfile::tempdir().unwrap();
    let storage = FolderStorage::open(root.path()).unwrap();
    for name in ["a/1", "a/3", "b/1"] {
        write(&storage, name, "x").await;
    }
    for name in ["a/2\n", "a/4\n", "b/2\n"] {
        std::fs::write(root.path().join(name), "x").unwrap();
    }
    let first = storage.list("a/", None, 1).await.unwrap();
    assert_eq!((first.entries.len(), first.passed_over), (1, 0));
    let second = storage.list("a/", first.next.as_ref(), 1).await.unwrap();
    assert_eq!((second.entries.len(), second.passed_over), (1, 2));
    assert_eq!(second.next, None);
}

#[tokio::test]
async fn a_folder_is_no_object_and_an_object_no_folder() {
    let root = tempfile::tempdir().unwrap();
    let storage = FolderStorage::open(root.path()).unwrap();
    write(&storage, "a/k", "k").await;
    assert!(
        storage
            .get(&key("a"), MAX)
            .await
            .unwrap_err()
            .is_not_found()
    );
    assert!(
        storage
            .get(&key("a/k/x"), MAX)
            .await
            .unwrap_err()
            .is_not_found()
    );
    for name in ["a", "a/k/x"] {
        for condition in [Condition::Always, Condition::IfAbsent] {
            let error = storage
                .put(&key(name), vec![], condition, &Metadata::new())
                .await
                .unwrap_err();
            assert!(
                matches!(error, StorageError::Failed { .. }),
                "{name}: {error}"
            );
        }
    }
    assert_eq!(text(&storage, "a/k").await, "k");
    assert!(FolderStorage::open(root.path().join("a/k")).is_err());
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_leads_nowhere() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    let root = tempfile::tempdir().unwrap();
    let storage = FolderStorage::open(root.path()).unwrap();
    std::os::unix::fs::symlink(outside.path(), root.path().join("link")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret"), root.path().join("file")).unwrap();
    for name in ["link/secret", "link/new", "file"] {
        let read = storage.get(&key(name), MAX).await.unwrap_err();
        let written = storage
            .put(&key(name), vec![1], Condition::Always, &Metadata::new())
            .await;
        for error in [read, written.unwrap_err()] {
            assert!(
                matches!(error, StorageError::InvalidKey { .. }),
                "{name}: {error}"
            );
        }
    }
    assert_eq!(
        storage.list("", None, 10).await.unwrap(),
        glioseg_shared::cloud::Page::default()
    );
    assert_eq!(
        std::fs::read(outside.path().join("secret")).unwrap(),
        b"secret"
    );
    assert!(!outside.path().join("new").exists());
}

/// Sends a signed request as a client without credentials would, and returns the status and body of the answer.
async fn send(
    address: SocketAddr,
    request: &SignedRequest,
    headers: &[(&str, &str)],
    body: &[u8],
) -> (u16, Vec<u8>) {
    let path = request
        .url
        .strip_prefix(&format!("http://{address}"))
        .unwrap();
    let mut head = format!(
        "{} {path} HTTP/1.1\r\nconnection: close\r\n",
        request.method
    );
    head.push_str(&format!(
        "host: {address}\r\ncontent-length: {}\r\n",
        body.len()
    ));
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&answer[..end]).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer[end + 4..].to_vec())
}

const LINK_LIFE: Duration = Duration::from_secs(900);

#[tokio::test]
async fn a_link_lets_anybody_read_one_object() {
    let server = S3Server::start().await;
    for prefix in [None, Some("team/gliomas")] {
        let storage = server.storage(prefix);
        for name in ["a", "study 1/slice_2+3 50%.tif", "ünï/名.tif"] {
            write(&storage, name, name).await;
            let link = storage.presign_get(&key(name), LINK_LIFE).await.unwrap();
            assert_eq!((&*link.method, link.expires_in), ("GET", LINK_LIFE));
            let answer = send(server.address, &link, &[], b"").await;
            assert_eq!(answer, (200, name.as_bytes().to_vec()), "{name}");

            let mut forged = link.clone();
            forged.url = link.url.replacen("/bucket/", "/bucket/x", 1);
            assert_eq!(send(server.address, &forged, &[], b"").await.0, 403);
            let mut forged = link.clone();
            forged.method = "DELETE".to_owned();
            assert_eq!(send(server.address, &forged, &[], b"").await.0, 403);
        }
    }
}

#[tokio::test]
async fn a_link_lets_anybody_write_one_object_on_its_terms() {
    let server = S3Server::start().await;
    let storage = server.storage(Some("team"));
    let name = "study 1/slice_2+3 50%.tif";
    let free = storage
        .presign_put(&key(name), LINK_LIFE, &UploadTerms::default())
        .await
        .unwrap();
    assert_eq!(free.method, "PUT");
    assert_eq!(send(server.address, &free, &[], b"first").await.0, 200);
    assert_eq!(text(&storage, name).await, "first");

    let terms = UploadTerms {
        content_length: Some(6),
        content_type: Some("image/tiff".to_owned()),
    };
    let bound = storage
        .presign_put(&key(name), LINK_LIFE, &terms)
        .await
        .unwrap();
    assert_eq!(bound.headers["content-type"], "image/tiff");
    assert_eq!(bound.headers["content-length"], "6");
    let tiff = [("content-type", "image/tiff")];
    let png = [("content-type", "image/png")];
    assert_eq!(send(server.address, &bound, &png, b"second").await.0, 403);
    assert_eq!(
        send(server.address, &bound, &tiff, b"longer one").await.0,
        403
    );
    assert_eq!(text(&storage, name).await, "first");
    assert_eq!(send(server.address, &bound, &tiff, b"second").await.0, 200);
    assert_eq!(text(&storage, name).await, "second");
}

#[tokio::test]
async fn a_link_is_good_for_a_second_to_seven_days() {
    let server = S3Server::start().await;
    let storage = server.storage(None);
    let day = Duration::from_secs(86_400);
    for (life, signed) in [
        (Duration::ZERO, false),
        (Duration::from_secs(1), true),
        (7 * day, true),
        (8 * day, false),
    ] {
        let link = storage.presign_get(&key("k"), life).await;
        assert_eq!(link.is_ok(), signed, "{life:?} {link:?}");
        assert!(link.is_ok() || !link.unwrap_err().is_retryable());
    }
}

#[tokio::test]
async fn a_link_stays_out_of_logs() {
    let server = S3Server::start().await;
    let link = server
        .storage(None)
        .presign_get(&key("k"), LINK_LIFE)
        .await
        .unwrap();
    assert!(link.url.contains("X-Amz-Signature="), "{}", link.url);
    let shown = format!("{link:?}");
    assert!(
        !shown.contains("Signature") && shown.contains("GET"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_folders_links_are_its_files() {
    let root = tempfile::tempdir().unwrap();
    let storage = FolderStorage::open(root.path()).unwrap();
    write(&storage, "study 1/50%.tif", "content").await;
    let link = storage
        .presign_get(&key("study 1/50%.tif"), LINK_LIFE)
        .await
        .unwrap();
    assert!(link.url.ends_with("/study%201/50%25.tif"), "{}", link.url);
    let path = link.url.strip_prefix("file://").unwrap();
    let path = path.replace("%20", " ").replace("%25", "%");
    assert_eq!(std::fs::read(path).unwrap(), b"content");
    let own = storage.presign_get(&key(".glioseg/lock"), LINK_LIFE).await;
    assert!(own.is_err());
}
