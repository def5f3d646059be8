//! Listings of a bucket, reading no folder that the prefix rules out.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{
    CommonPrefix, EncodingType, ListObjectsV2Input, ListObjectsV2Output, Object, Timestamp,
};

/// S3's own bound on one page.
const MAX_KEYS: i32 = 1000;

/// What S3 leaves as it is in a listing with URL encoding.
const PLAIN: AsciiSet = NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'*');

struct File {
    size: u64,
    modified: SystemTime,
}

/// One line of a listing.
enum Line {
    Object(File),
    Prefix,
}

/// Answers a listing of the bucket in `folder`.
pub(super) fn list(folder: &Path, input: ListObjectsV2Input) -> io::Result<ListObjectsV2Output> {
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let delimiter = input.delimiter.as_deref().filter(|text| !text.is_empty());
    let after = input
        .continuation_token
        .as_deref()
        .max(input.start_after.as_deref());
    let limit = input.max_keys.unwrap_or(MAX_KEYS).clamp(0, MAX_KEYS);

    let mut lines: BTreeMap<String, Line> = BTreeMap::new();
    for (key, file) in files(folder, prefix)? {
        let group = delimiter.and_then(|delimiter| {
            let end = prefix.len() + key[prefix.len()..].find(delimiter)? + delimiter.len();
            Some(key[..end].to_owned())
        });
        let (name, line) = match group {
            Some(group) => (group, Line::Prefix),
            None => (key, Line::Object(file)),
        };
        if after.is_none_or(|after| name.as_str() > after) {
            lines.insert(name, line);
        }
    }

    let count = lines.len();
    let taken = usize::try_from(limit).unwrap_or(0).min(count);
    let truncated = taken < count && taken > 0;
    let url = input
        .encoding_type
        .as_ref()
        .is_some_and(|kind| kind.as_str() == EncodingType::URL);
    let encode = |text: String| {
        if url {
            utf8_percent_encode(&text, &PLAIN).to_string()
        } else {
            text
        }
    };
    let mut contents = Vec::new();
    let mut common_prefixes = Vec::new();
    let mut last = None;
    for (name, line) in lines.into_iter().take(taken) {
        last = Some(name.clone());
        match line {
            Line::Prefix => common_prefixes.push(CommonPrefix {
                prefix: Some(encode(name)),
            }),
            Line::Object(file) => contents.push(Object {
                key: Some(encode(name)),
                size: i64::try_from(file.size).ok(),
                last_modified: Some(Timestamp::from(file.modified)),
                ..Object::default()
            }),
        }
    }
    Ok(ListObjectsV2Output {
        key_count: i32::try_from(taken).ok(),
        max_keys: Some(limit),
        is_truncated: Some(truncated),
        next_continuation_token: last.filter(|_| truncated),
        contents: Some(contents).filter(|contents| !contents.is_empty()),
        common_prefixes: Some(common_prefixes).filter(|prefixes| !prefixes.is_empty()),
        continuation_token: input.continuation_token,
        delimiter: input.delimiter.map(encode),
        prefix: input.prefix.map(encode),
        start_after: input.start_after.map(encode),
        encoding_type: input.encoding_type,
        name: Some(input.bucket),
        ..ListObjectsV2Output::default()
    })
}

/// The objects whose keys start with a prefix, in no order.
fn files(bucket: &Path, prefix: &str) -> io::Result<Vec<(String, File)>> {
    // All keys with the prefix lie below the folder that its last slash names.
    let start = prefix.rfind('/').map_or("", |slash| &prefix[..=slash]);
    let mut found = Vec::new();
    if start
        .split('/')
        .any(|segment| matches!(segment, "." | ".."))
        || start.starts_with('/')
    {
        return Ok(found);
    }
    let mut folders = vec![(bucket.join(start), start.to_owned())];
    while let Some((folder, below)) = folders.pop() {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let key = format!("{below}{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() {
                let below = format!("{key}/");
                if below.starts_with(prefix) || prefix.starts_with(&below) {
                    folders.push((entry.path(), below));
                }
            } else if key.starts_with(prefix) {
                match entry.metadata() {
                    Ok(metadata) => {
                        let (size, modified) = (metadata.len(), metadata.modified()?);
                        found.push((key, File { size, modified }));
                    }
                    // Deleted since the folder was read.
                    Err(error) if is_absent(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(found)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn bucket(keys: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for key in keys {
            let path = folder.path().join(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, key).unwrap();
        }
        folder
    }

    fn names(output: &ListObjectsV2Output) -> (Vec<String>, Vec<String>) {
        let keys = output
            .contents
            .iter()
            .flatten()
            .filter_map(|o| o.key.clone());
        let prefixes = output
            .common_prefixes
            .iter()
            .flatten()
            .filter_map(|p| p.prefix.clone());
        (keys.collect(), prefixes.collect())
    }

    #[test]
    fn pages_hold_objects_and_prefixes_in_the_order_of_bytes() {
        let folder = bucket(&["a-1", "a/1", "a/2", "ab", "b/c/1", "b/d"]);
        let list = |after: Option<&str>, prefix: &str| {
            let input = ListObjectsV2Input {
                bucket: "uploads".to_owned(),
                delimiter: Some("/".to_owned()),
                prefix: Some(prefix.to_owned()),
                max_keys: Some(2),
                continuation_token: after.map(str::to_owned),
                ..Default::default()
            };
            super::list(folder.path(), input).unwrap()
        };
        let first = list(None, "");
        assert_eq!(names(&first), (vec!["a-1".into()], vec!["a/".into()]));
        assert_eq!(first.is_truncated, Some(true));
        let second = list(first.next_continuation_token.as_deref(), "");
        assert_eq!(names(&second), (vec!["ab".into()], vec!["b/".into()]));
        assert_eq!(
            (second.is_truncated, second.next_continuation_token),
            (Some(false), None)
        );
        assert_eq!(
            names(&list(None, "b/")),
            (vec!["b/d".into()], vec!["b/c/".into()])
        );
        for nowhere in ["c/", "../", "/", "a-1/"] {
            assert_eq!(names(&list(None, nowhere)), (vec![], vec![]), "{nowhere}");
        }
    }

    #[test]
    fn keys_are_encoded_where_the_client_asks_for_it() {
        let folder = bucket(&["a b/50%+ü.tif"]);
        let input = ListObjectsV2Input {
            bucket: "uploads".to_owned(),
            encoding_type: Some(EncodingType::from_static(EncodingType::URL)),
            ..Default::default()
        };
        let (keys, _) = names(&list(folder.path(), input).unwrap());
        assert_eq!(keys, ["a%20b/50%25%2B%C3%BC.tif"]);
    }
}
